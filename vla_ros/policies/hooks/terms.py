# SPDX-License-Identifier: Apache-2.0
"""Base rows and what was added to them, term by term.

    command = base displaced by (steering + residual + limit)

Each term is (H, 7): translation [m], rotation vector [rad], both in base, gripper width [m]. The
command is computed from the terms, never the terms from the command: what is logged sums to what is
executed, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import displaced
from vla_ros.errors import ShapeError
from vla_ros.rotations import difference
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]

N_TERMS = 7


@dataclass(frozen=True, kw_only=True)
class HookedRows:
    """Rows to execute and where they come from."""

    base: ActionChunk
    steering: Array
    residual: Array
    limit: Array

    def __post_init__(self) -> None:
        shape = (self.base.horizon, N_TERMS)
        for name in ("steering", "residual", "limit"):
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} must be {shape}, got {getattr(self, name).shape}")

    @property
    def added(self) -> Array:
        """Sum of the terms (H, 7)."""
        return self.steering + self.residual + self.limit

    @cached_property  # asked for by the executor, then by the log
    def command(self) -> ActionChunk:
        """The rows to execute."""
        return moved(self.base, self.added)


def moved(rows: ActionChunk, offsets: Array) -> ActionChunk:
    """Return rows displaced by offsets (H, 7); a gripper width is at least 0."""
    widths = np.maximum(rows.gripper_width_m + offsets[:, 6], 0.0)
    return replace(displaced(rows, offsets[:, :6]), gripper_width_m=widths)


def offsets_between(base: ActionChunk, other: ActionChunk) -> Array:
    """Return the offsets (H, 7) that take ``base`` to ``other``, up to rounding.

    Raises:
        ShapeError: if they have other times or numbers of rows.
    """
    same_grid = (base.target0_ns, base.dt_ns, base.horizon)
    if same_grid != (other.target0_ns, other.dt_ns, other.horizon):
        raise ShapeError("base and steered rows must have the same times")
    return np.hstack(
        [
            other.positions - base.positions,
            difference(base.quats_xyzw, other.quats_xyzw),
            (other.gripper_width_m - base.gripper_width_m)[:, None],
        ]
    )
