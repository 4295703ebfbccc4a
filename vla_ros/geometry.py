# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms on NumPy arrays.

Quaternions are ``(4,)`` in ``xyzw`` order. ``T_a_b`` is the ``(4, 4)`` pose of frame b in frame a:
``p_a = T_a_b @ p_b``. Angles are radians, lengths metres.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError

Array = NDArray[np.float64]

_SMALL_ANGLE = 1e-9


def quat_xyzw_to_matrix(quat_xyzw: Array) -> Array:
    """Return the (3, 3) rotation matrix of a unit quaternion (4,)."""
    x, y, z, w = (float(c) for c in quat_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quat_xyzw(R: Array) -> Array:
    """Return the unit quaternion (4,), xyzw with w >= 0, of a rotation matrix (3, 3).

    Picks the largest of the four components first, so it is stable at every angle.
    """
    trace = float(R[0, 0] + R[1, 1] + R[2, 2])
    squares = np.array([R[0, 0], R[1, 1], R[2, 2], trace])
    i = int(np.argmax(squares))
    quat = np.empty(4)
    if i == 3:
        quat[:] = (R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace)
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        quat[i] = 1 + 2 * R[i, i] - trace
        quat[j] = R[j, i] + R[i, j]
        quat[k] = R[k, i] + R[i, k]
        quat[3] = R[k, j] - R[j, k]
    quat /= np.linalg.norm(quat)
    return -quat if quat[3] < 0 else quat


def quat_multiply(a_xyzw: Array, b_xyzw: Array) -> Array:
    """Return the Hamilton product a * b, both (4,) xyzw."""
    ax, ay, az, aw = (float(c) for c in a_xyzw)
    bx, by, bz, bw = (float(c) for c in b_xyzw)
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def quat_conjugate(quat_xyzw: Array) -> Array:
    """Return the inverse of a unit quaternion (4,) xyzw."""
    return np.array([-quat_xyzw[0], -quat_xyzw[1], -quat_xyzw[2], quat_xyzw[3]])


def quat_to_rotation_vector(quat_xyzw: Array) -> Array:
    """Return the rotation vector (3,) [rad], shortest way round, of a unit quaternion (log map)."""
    quat = np.asarray(quat_xyzw, dtype=float)
    if quat[3] < 0:
        quat = -quat
    sine = float(np.linalg.norm(quat[:3]))
    if sine < _SMALL_ANGLE:
        return 2.0 * quat[:3]
    return quat[:3] * (2.0 * math.atan2(sine, float(quat[3])) / sine)


def rotation_vector_to_quat(rotvec: Array) -> Array:
    """Return the unit quaternion (4,) xyzw of a rotation vector (3,) [rad] (exp map)."""
    angle = float(np.linalg.norm(rotvec))
    if angle < _SMALL_ANGLE:
        quat: Array = np.array([*(0.5 * np.asarray(rotvec)), 1.0])
        return quat / float(np.linalg.norm(quat))
    scale = math.sin(0.5 * angle) / angle
    return np.array([*(scale * np.asarray(rotvec)), math.cos(0.5 * angle)])


def rotation_error(R_a: Array, R_b: Array) -> Array:
    """Return the rotation vector (3,) [rad] that takes R_a to R_b, in the common parent frame."""
    return quat_to_rotation_vector(matrix_to_quat_xyzw(R_b @ R_a.T))


def slerp(a_xyzw: Array, b_xyzw: Array, fraction: float) -> Array:
    """Interpolate on the shortest arc between unit quaternions; fraction 0 gives a, 1 gives b."""
    step = quat_to_rotation_vector(quat_multiply(b_xyzw, quat_conjugate(a_xyzw)))
    return quat_multiply(rotation_vector_to_quat(fraction * step), np.asarray(a_xyzw, dtype=float))


def make_pose(position: Array, R: Array) -> Array:
    """Return the (4, 4) transform with translation (3,) [m] and rotation (3, 3)."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = position
    return T


def pose_from_quat(position: Array, quat_xyzw: Array) -> Array:
    """Return the (4, 4) transform of a translation (3,) [m] and a unit quaternion (4,) xyzw."""
    return make_pose(position, quat_xyzw_to_matrix(quat_xyzw))


def invert_pose(T: Array) -> Array:
    """Return the inverse of a rigid transform (4, 4)."""
    R = T[:3, :3]
    return make_pose(-R.T @ T[:3, 3], R.T)


def transform_points(T_a_b: Array, points_b: Array) -> Array:
    """Return points (n, 3) [m] of frame b expressed in frame a.

    Raises:
        ShapeError: if ``points_b`` is not (n, 3).
    """
    if points_b.ndim != 2 or points_b.shape[1] != 3:
        raise ShapeError(f"points must have shape (n, 3), got {points_b.shape}")
    moved: Array = points_b @ T_a_b[:3, :3].T + T_a_b[:3, 3]
    return moved


def rotation_about_z(yaw_rad: float) -> Array:
    """Return the (3, 3) rotation by ``yaw_rad`` about z."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
