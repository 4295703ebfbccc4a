# SPDX-License-Identifier: Apache-2.0
"""Rows relative to the reference at inference, as the model writes them.

One row is (x, y, z) [m] in base minus the reference's position, sine and cosine of the yaw minus
the reference's yaw, and the gripper's opening [m]. ``manifest.ACTIONS`` says the same to the
runtime, which turns them into poses.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ACTION_FIELDS = ("dx_m", "dy_m", "dz_m", "dyaw_sin", "dyaw_cos", "gripper_width_m")
ACTION_SIZE = len(ACTION_FIELDS)
CHUNK_ROWS = 16
CHUNK_DT_NS = 33_333_333

Array = NDArray[np.float64]


def from_chunk(positions: Array, quats_xyzw: Array, gripper_m: Array, ref: Array) -> Array:
    """Return rows (H, 6) of poses in base, relative to a reference (x, y, z [m], yaw [rad])."""
    x, y, z, w = quats_xyzw.T
    yaws = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
    turned = yaws - ref[3]
    return np.column_stack([positions - ref[:3], np.sin(turned), np.cos(turned), gripper_m])


def turn(from_rad: float, to_rad: float) -> float:
    """Return the smallest rotation between two yaws [rad], in (-pi, pi]."""
    return math.remainder(to_rad - from_rad, 2 * math.pi)
