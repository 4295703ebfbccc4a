# SPDX-License-Identifier: Apache-2.0
"""Costs to steer by: stay clear of a post, go faster or slower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PostCost:
    """Cost of rows nearer to a vertical post than its clearance.

        cost = 1/2 sum_i max(l_i - side s_i, 0)^2,   l_i = sqrt(clearance^2 - a_i^2)

    with a_i and s_i the offsets from the post along the way and across it. All rows go past on the
    side on which most of them already are: pushed straight away from the post, rows before it would
    stay before it and rows behind it behind, and the arm would go through between two rows.
    """

    name: str = "post"
    x_m: float = setting(0.0, "of the post in base", unit="m", ge=-10.0, le=10.0)
    y_m: float = setting(0.0, "of the post in base", unit="m", ge=-10.0, le=10.0)
    clearance_m: float = setting(
        0.05, "radius of the post and of the hand, and a margin", unit="m", ge=0.001, le=1.0
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def descent(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return minus the gradient (H, 3) [m]."""
        offsets = rows.positions[:, :2] - np.array([self.x_m, self.y_m])
        way = rows.positions[-1, :2] - rows.positions[0, :2]
        length = float(np.linalg.norm(way))
        along = way / length if length > 1e-9 else np.array([1.0, 0.0])
        across = np.array([-along[1], along[0]])
        a, s = offsets @ along, offsets @ across
        is_beside = np.abs(a) < self.clearance_m
        side = 1.0 if s[is_beside].sum() >= 0.0 else -1.0
        half_chord = np.sqrt(np.maximum(self.clearance_m**2 - a**2, 0.0))
        depth = np.where(is_beside, np.maximum(half_chord - side * s, 0.0), 0.0)
        steps = np.zeros((rows.horizon, 3))
        steps[:, :2] = side * depth[:, None] * across
        return steps


@dataclass(frozen=True, kw_only=True)
class SpeedCost:
    """Cost of moving less (coefficient above 0) or more (below 0) than the policy would.

    cost = -coefficient gain / 2 sum_i |p_i - p_0|^2
    """

    name: str = "speed"
    coefficient: float = setting(0.0, "0: as the policy would", ge=-2.0, le=2.0)
    gain: float = setting(0.1, "step as a share of the way from row 0", ge=0.0, le=0.5)

    def __post_init__(self) -> None:
        check_fields(self)

    def descent(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return minus the gradient (H, 3) [m]."""
        steps: Array = self.coefficient * self.gain * (rows.positions - rows.positions[0])
        return steps
