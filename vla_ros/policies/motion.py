# SPDX-License-Identifier: Apache-2.0
"""Smooth motion towards a goal pose, row by row: speed and acceleration limited, no overshoot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.geometry import (
    matrix_to_quat_xyzw,
    quat_conjugate,
    quat_multiply,
    quat_to_rotation_vector,
    rotation_vector_to_quat,
)

Array = NDArray[np.float64]

_SUBSTEPS = 4


@dataclass(frozen=True, kw_only=True)
class MotionLimits:
    """How fast the policy asks the arm to move."""

    speed_m_s: float = setting(0.45, "top speed", unit="m/s", ge=0.01, le=3.0)
    acceleration_m_s2: float = setting(1.8, "top acceleration", unit="m/s²", ge=0.1, le=13.0)
    speed_rad_s: float = setting(1.6, "top rotation speed", unit="rad/s", ge=0.01, le=10.0)
    acceleration_rad_s2: float = setting(
        6.0, "top rotation acceleration", unit="rad/s²", ge=0.1, le=25.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


def _approach_velocity(error: Array, speed: float, acceleration: float, step_s: float) -> Array:
    """Velocity from which the error can be stopped at with the acceleration given."""
    distance = float(np.linalg.norm(error))
    if distance < 1e-9:
        return np.zeros(3)
    # Half the deceleration, so that the discrete steps never overshoot; linear near the goal.
    wanted = min(speed, math.sqrt(acceleration * distance), distance / (4.0 * step_s))
    return error * (wanted / distance)


def _towards(velocity: Array, wanted: Array, largest_change: float) -> Array:
    change = wanted - velocity
    size = float(np.linalg.norm(change))
    return wanted if size <= largest_change else velocity + change * (largest_change / size)


def plan_rows(
    T_base_start: Array,
    twist_start: Array,
    goal_position: Array,
    goal_R: Array,
    n_rows: int,
    dt_s: float,
    limits: MotionLimits,
) -> tuple[Array, Array]:
    """Plan ``n_rows`` poses ``dt_s`` apart, beginning with the start pose itself.

    Args:
        T_base_start: (4, 4) pose at row 0.
        twist_start: (6,) twist at row 0, in base.
        goal_position: (3,) position to come to rest at, in base [m].
        goal_R: (3, 3) orientation to come to rest at, in base.
        n_rows: number of poses to plan.
        dt_s: time from one row to the next [s].
        limits: top speeds and accelerations.

    Returns:
        positions (n, 3) [m] and quats_xyzw (n, 4).
    """
    position = T_base_start[:3, 3].copy()
    quat = matrix_to_quat_xyzw(T_base_start[:3, :3])
    goal_quat = matrix_to_quat_xyzw(goal_R)
    velocity, spin = twist_start[:3].copy(), twist_start[3:].copy()
    step_s = dt_s / _SUBSTEPS
    positions, quats = np.empty((n_rows, 3)), np.empty((n_rows, 4))
    for row in range(n_rows):
        positions[row], quats[row] = position, quat
        for _ in range(_SUBSTEPS):
            wanted = _approach_velocity(
                goal_position - position, limits.speed_m_s, limits.acceleration_m_s2, step_s
            )
            velocity = _towards(velocity, wanted, limits.acceleration_m_s2 * step_s)
            position = position + velocity * step_s
            error = quat_to_rotation_vector(quat_multiply(goal_quat, quat_conjugate(quat)))
            wanted = _approach_velocity(
                error, limits.speed_rad_s, limits.acceleration_rad_s2, step_s
            )
            spin = _towards(spin, wanted, limits.acceleration_rad_s2 * step_s)
            quat = quat_multiply(rotation_vector_to_quat(spin * step_s), quat)
        quat /= np.linalg.norm(quat)
    return positions, quats
