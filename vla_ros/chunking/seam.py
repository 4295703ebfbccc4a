# SPDX-License-Identifier: Apache-2.0
"""Two plans that meet: the offset between them, how it fades, rows that go from one to the other.

    o(t) = (o_0 + (o_0' + o_0 / tau) t) exp(-t / tau)

with o_0 = old(switch) - new(switch) and o_0' the same of their twists (6,): translation and
rotation vector in base. It is the critically damped decay that meets pose *and* twist of the old
plan, so rows + o are C1 over the switch. The gripper is not faded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import (
    Times,
    displaced,
    end_ns,
    resample,
    row_times,
    sample,
    steps_until,
    twist,
)
from vla_ros.rotations import difference
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Offset:
    """Offset (6,) [m, rad] and its rate (6,) at an instant."""

    at_ns: int
    value: Array
    rate: Array

    def values(self, at_ns: Times, tau_s: float) -> Array:
        """Return the offset (n, 6) at the instants ``at_ns`` (n,)."""
        t = 1e-9 * (np.asarray(at_ns, dtype=np.int64) - self.at_ns)[:, None]
        ramp = self.rate + self.value / tau_s
        faded: Array = (self.value + ramp * t) * np.exp(-t / tau_s)
        return faded

    def advanced(self, to_ns: int, tau_s: float) -> Offset:
        """Return the same motion, stated at ``to_ns``."""
        t = 1e-9 * (to_ns - self.at_ns)
        ramp = self.rate + self.value / tau_s
        shrink = np.exp(-t / tau_s)
        value = (self.value + ramp * t) * shrink
        return Offset(to_ns, value, ramp * shrink - value / tau_s)


def jump(old: ActionChunk, new: ActionChunk, at_ns: int) -> Offset:
    """Return where the old rows are, seen from the new ones, at ``at_ns``; zero beyond either."""
    if not (_covers(old, at_ns) and _covers(new, at_ns)):
        return Offset(at_ns, np.zeros(6), np.zeros(6))
    a, b = sample(old, np.array([at_ns])), sample(new, np.array([at_ns]))
    turned = difference(b.quats_xyzw[0], a.quats_xyzw[0])
    value = np.concatenate([a.positions[0] - b.positions[0], turned])
    return Offset(at_ns, value, twist(old, at_ns) - twist(new, at_ns))


def join_rows(
    old: ActionChunk | None,
    new: ActionChunk,
    *,
    now_ns: int,
    switch_ns: int,
    tau_s: float | None,
    old_until_ns: int | None = None,
) -> ActionChunk:
    """Return old rows until ``switch_ns`` and new ones, with the faded offset, from then on.

    ``old_until_ns``: when the new ones begin, if that is before the offset begins to fade; until
    then it stays as it is at the switch.

    Without offset where ``tau_s`` is None, and where the old rows end before the switch: then the
    last one is held. Without old rows from ``now_ns`` on the new ones are returned as they are: the
    arm rests or brakes, and there is no motion to meet. On the time grid of ``new``, beginning
    before ``now_ns``.
    """
    if old is None or now_ns > end_ns(old):
        return new
    lead = steps_until(0, new.dt_ns, new.target0_ns - (now_ns - new.dt_ns))
    start_ns = new.target0_ns - lead * new.dt_ns
    rows = resample(new, start_ns, new.dt_ns, new.horizon + lead)
    times = row_times(rows)
    if tau_s is None:
        joined = rows
    else:
        offsets = jump(old, new, switch_ns).values(np.maximum(times, switch_ns), tau_s)
        joined = displaced(rows, offsets)
    is_old = times < (switch_ns if old_until_ns is None else old_until_ns)
    if is_old.any():
        kept = sample(old, times[is_old])
        joined.positions[is_old] = kept.positions
        joined.quats_xyzw[is_old] = kept.quats_xyzw
        joined.gripper_width_m[is_old] = kept.gripper_width_m
    return joined


def _covers(rows: ActionChunk, at_ns: int) -> bool:
    return rows.target0_ns <= at_ns <= end_ns(rows)
