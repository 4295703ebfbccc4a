# SPDX-License-Identifier: Apache-2.0
"""Hooked rows as plain arrays, for messages and files, and back: every bit is kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError
from vla_ros.policies.hooks.terms import N_TERMS, HookedRows
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]

N_ROW = 8  # position, quaternion xyzw, gripper width
_TERMS = ("steering", "residual", "limit")


def to_arrays(rows: HookedRows) -> dict[str, Array]:
    """Return ``base`` and ``command`` (H, 8), ``steering``, ``residual`` and ``limit`` (H, 7)."""
    arrays = {name: getattr(rows, name) for name in _TERMS}
    return arrays | {"base": _flat(rows.base), "command": _flat(rows.command)}


def from_arrays(arrays: Mapping[str, Array], target0_ns: int, dt_ns: int) -> HookedRows:
    """Return the rows of ``to_arrays``; the command is computed anew from the terms.

    Raises:
        ShapeError: if numbers are missing, or there are too many.
    """
    return HookedRows(
        base=chunk_of(arrays["base"], target0_ns, dt_ns),
        **{name: _rows(name, arrays[name], N_TERMS) for name in _TERMS},
    )


def chunk_of(values: Array, target0_ns: int, dt_ns: int) -> ActionChunk:
    """Return rows of eight numbers each, flat or (H, 8), as a chunk.

    Raises:
        ShapeError: if the last row is cut off, or there is none.
    """
    rows = _rows("rows", values, N_ROW)
    return ActionChunk(
        target0_ns=target0_ns,
        dt_ns=dt_ns,
        positions=rows[:, :3],
        quats_xyzw=rows[:, 3:7],
        gripper_width_m=rows[:, 7],
    )


def _flat(rows: ActionChunk) -> Array:
    return np.hstack([rows.positions, rows.quats_xyzw, rows.gripper_width_m[:, None]])


def _rows(name: str, values: Array, width: int) -> Array:
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(flat) % width:
        raise ShapeError(f"{name} must have {width} numbers per row, got {len(flat)}")
    return flat.reshape(-1, width)
