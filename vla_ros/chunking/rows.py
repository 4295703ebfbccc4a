# SPDX-License-Identifier: Apache-2.0
"""Rows of a chunk by time: which are left, what they say at an instant, on another time grid.

Between rows: linear for positions, shortest arc for rotations, zero-order hold for the gripper, as
in the control host. Before the first row and after the last one: that row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Rows at given instants: positions (n, 3) [m], quats_xyzw (n, 4), gripper_width_m (n,)."""

    positions: Array
    quats_xyzw: Array
    gripper_width_m: Array


def row_times(rows: ActionChunk) -> Times:
    """Return the time of each row (H,) [ns]."""
    return rows.target0_ns + rows.dt_ns * np.arange(rows.horizon, dtype=np.int64)


def end_ns(rows: ActionChunk) -> int:
    """Return the time of the last row [ns]."""
    return rows.target0_ns + (rows.horizon - 1) * rows.dt_ns


def slice_rows(rows: ActionChunk, start: int, stop: int | None = None) -> ActionChunk:
    """Return rows ``start`` to ``stop`` (exclusive) at their own times; there must be one."""
    part = slice(start, stop)
    return replace(
        rows,
        target0_ns=rows.target0_ns + start * rows.dt_ns,
        positions=rows.positions[part],
        quats_xyzw=rows.quats_xyzw[part],
        gripper_width_m=rows.gripper_width_m[part],
    )


def rows_from(rows: ActionChunk | None, now_ns: int) -> ActionChunk | None:
    """Return the rows from the one before that in force at ``now_ns`` on; None after the last one.

    The past row lets the twist of the one in force be a central difference, as it was before.
    """
    if rows is None or now_ns > end_ns(rows):
        return None
    start = (now_ns - rows.target0_ns) // rows.dt_ns - 1
    return rows if start <= 0 else slice_rows(rows, start)


def shifted(rows: ActionChunk, target0_ns: int) -> ActionChunk:
    """Return the same rows with row 0 at ``target0_ns``."""
    return replace(rows, target0_ns=target0_ns)


def sample(rows: ActionChunk, at_ns: Times) -> Sample:
    """Return what the rows say at the instants ``at_ns`` (n,) [ns]."""
    n = rows.horizon
    index = np.clip((np.asarray(at_ns) - rows.target0_ns) / rows.dt_ns, 0.0, n - 1.0)
    low = np.minimum(index.astype(np.int64), n - 1)
    fraction = (index - low)[:, None]
    if not fraction.any():
        return Sample(rows.positions[low], rows.quats_xyzw[low], rows.gripper_width_m[low])
    high = np.minimum(low + 1, n - 1)
    a, b = rows.quats_xyzw[low], rows.quats_xyzw[high]
    return Sample(
        positions=(1.0 - fraction) * rows.positions[low] + fraction * rows.positions[high],
        quats_xyzw=rotations.rotated(a, fraction * rotations.difference(a, b)),
        gripper_width_m=rows.gripper_width_m[low],
    )


def resample(rows: ActionChunk, target0_ns: int, dt_ns: int, n: int) -> ActionChunk:
    """Return ``n`` rows on another time grid."""
    found = sample(rows, target0_ns + dt_ns * np.arange(n, dtype=np.int64))
    return replace(
        rows,
        target0_ns=target0_ns,
        dt_ns=dt_ns,
        positions=found.positions,
        quats_xyzw=found.quats_xyzw,
        gripper_width_m=found.gripper_width_m,
    )


def twist(rows: ActionChunk, at_ns: int) -> Array:
    """Return the twist (6,) of the rows at an instant, linear first; zero beyond their ends.

    Central differences over one row to each side, one-sided at the ends.
    """
    first, last = rows.target0_ns, end_ns(rows)
    if not first <= at_ns <= last or rows.horizon < 2:
        return np.zeros(6)
    before, after = max(at_ns - rows.dt_ns, first), min(at_ns + rows.dt_ns, last)
    found = sample(rows, np.array([before, after]))
    spin = rotations.difference(found.quats_xyzw[0], found.quats_xyzw[1])
    moved = np.concatenate([found.positions[1] - found.positions[0], spin])
    return moved / (1e-9 * (after - before))


def displaced(rows: ActionChunk, offsets: Array) -> ActionChunk:
    """Return the rows moved by (H, 6): translation [m] and rotation vector [rad], both in base."""
    return replace(
        rows,
        positions=rows.positions + offsets[:, :3],
        quats_xyzw=rotations.rotated(rows.quats_xyzw, offsets[:, 3:]),
    )


def repeated_row(rows: ActionChunk, index: int, target0_ns: int, n: int) -> ActionChunk:
    """Return row ``index`` held for ``n`` rows from ``target0_ns`` on."""
    return replace(
        rows,
        target0_ns=target0_ns,
        positions=np.repeat(rows.positions[index][None], n, axis=0),
        quats_xyzw=np.repeat(rows.quats_xyzw[index][None], n, axis=0),
        gripper_width_m=np.repeat(rows.gripper_width_m[index], n),
    )


def steps_until(grid0_ns: int, dt_ns: int, at_ns: int) -> int:
    """Return how many rows of a grid are due before ``at_ns``: the smallest d >= 0 not before."""
    return max(-((grid0_ns - at_ns) // dt_ns), 0)
