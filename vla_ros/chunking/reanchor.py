# SPDX-License-Identifier: Apache-2.0
"""Rows relative to the pose they were made at: level 1 of the compensation ladder.

Poses are ``T_anchor_row``; absolute ones are ``T_base_row = T_base_anchor @ T_anchor_row``. Gripper
widths are absolute in both.

Source: relative end-effector actions of GR00T N1.7 and LeRobot 7427f318
(``reanchor_relative_rtc_prefix``), which do it per joint or per axis; here on rigid transforms.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.errors import FrameError
from vla_ros.geometry import invert_pose, matrix_to_quat_xyzw, transform_points
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


def to_absolute(rows: ActionChunk, T_base_anchor: Array) -> ActionChunk:
    """Return rows of an anchor's frame in base."""
    return _transformed(rows, T_base_anchor)


def to_relative(rows: ActionChunk, T_base_anchor: Array) -> ActionChunk:
    """Return rows of base in the frame of an anchor."""
    return _transformed(rows, invert_pose(_checked(T_base_anchor)))


def reanchored(rows: ActionChunk, T_base_old: Array, T_base_new: Array) -> ActionChunk:
    """Return relative rows, made at one anchor, relative to another: the same poses in base."""
    return _transformed(rows, invert_pose(_checked(T_base_new)) @ _checked(T_base_old))


def _transformed(rows: ActionChunk, T_a_b: Array) -> ActionChunk:
    quat = matrix_to_quat_xyzw(_checked(T_a_b)[:3, :3])
    return replace(
        rows,
        positions=transform_points(T_a_b, rows.positions),
        quats_xyzw=rotations.multiply(quat, rows.quats_xyzw),
    )


def _checked(T: Array) -> Array:
    is_rigid = T.shape == (4, 4) and bool(
        np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6)
    )
    if not is_rigid:
        raise FrameError("an anchor must be a rigid transform (4, 4)")
    return T
