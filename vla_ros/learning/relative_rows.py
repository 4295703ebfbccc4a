# SPDX-License-Identifier: Apache-2.0
"""Rows relative to the reference at inference, as the model writes them, and back to a chunk.

One row is (x, y, z) [m] in base minus the reference's position, sine and cosine of the yaw minus
the reference's yaw, and the gripper's opening [m].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError
from vla_ros.learning.state_vector import yaw_of
from vla_ros.types import ActionChunk, RobotState

ACTION_FIELDS = ("dx_m", "dy_m", "dz_m", "dyaw_sin", "dyaw_cos", "gripper_width_m")
ACTION_SIZE = len(ACTION_FIELDS)
CHUNK_ROWS = 16
CHUNK_DT_NS = 33_333_333

Array = NDArray[np.float64]


def to_chunk(
    actions: NDArray[np.floating],
    state: RobotState,
    dt_ns: int = CHUNK_DT_NS,
    phase: str = "",
    done: bool = False,
) -> ActionChunk:
    """Return the rows (H, 6) as a chunk whose first row is due at the time of ``state``.

    The hand points straight down in every row; the first row is the reference itself.

    Raises:
        PolicyError: if a number is not finite or a sine and cosine are both near zero.
    """
    if actions.ndim != 2 or actions.shape[1] != ACTION_SIZE or not np.isfinite(actions).all():
        raise PolicyError(f"actions must be finite (H, {ACTION_SIZE}), got {actions.shape}")
    rows = np.asarray(actions, dtype=np.float64)
    if np.hypot(rows[:, 3], rows[:, 4]).min() < 0.1:
        raise PolicyError("sine and cosine of a row's yaw are both near zero")
    yaws = yaw_of(state.T_base_ref[:3, :3]) + np.arctan2(rows[:, 3], rows[:, 4])
    # Rz(yaw) diag(1, -1, -1): a half turn about the axis at yaw / 2 in the horizontal plane.
    quats = np.zeros((len(rows), 4))
    quats[:, 0], quats[:, 1] = np.cos(yaws / 2), np.sin(yaws / 2)
    return ActionChunk(
        target0_ns=state.tick_ns,
        dt_ns=dt_ns,
        positions=state.T_base_ref[:3, 3] + rows[:, :3],
        quats_xyzw=quats,
        gripper_width_m=rows[:, 5].copy(),
        phase=phase,
        done=done,
    )


def from_chunk(positions: Array, quats_xyzw: Array, gripper_m: Array, ref: Array) -> Array:
    """Return rows (H, 6) of poses in base, relative to a reference (x, y, z [m], yaw [rad])."""
    x, y, z, w = quats_xyzw.T
    yaws = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
    turned = yaws - ref[3]
    return np.column_stack([positions - ref[:3], np.sin(turned), np.cos(turned), gripper_m])


def turn(from_rad: float, to_rad: float) -> float:
    """Return the smallest rotation between two yaws [rad], in (-pi, pi]."""
    return math.remainder(to_rad - from_rad, 2 * math.pi)
