# SPDX-License-Identifier: Apache-2.0
"""Quaternions and rotation vectors of many rows at once; ``vla_ros.geometry`` has one at a time.

Quaternions are (n, 4) unit, ``xyzw``; rotation vectors (n, 3) [rad] in the parent frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALL = 1e-12
_INVERSE = np.array([-1.0, -1.0, -1.0, 1.0])

# a * b = L(a) b with L linear in a: row j of _LEFT is the flattened L of the j-th unit quaternion.
_LEFT = np.array(
    [
        [[0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 0, 0]],
        [[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]],
        [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]],
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    ],
    dtype=float,
).reshape(4, 16)


def multiply(a_xyzw: Array, b_xyzw: Array) -> Array:
    """Return the Hamilton products a * b, (n, 4); either side may be a single (4,)."""
    left = (a_xyzw @ _LEFT).reshape(*np.shape(a_xyzw)[:-1], 4, 4)
    products: Array = (left @ np.asarray(b_xyzw)[..., None])[..., 0]
    return products


def conjugate(quats_xyzw: Array) -> Array:
    """Return the inverses of unit quaternions."""
    inverse: Array = quats_xyzw * _INVERSE
    return inverse


def log(quats_xyzw: Array) -> Array:
    """Return the rotation vectors [rad], shortest way round."""
    quats = np.where(quats_xyzw[..., 3:] < 0.0, -quats_xyzw, quats_xyzw)
    sine = np.linalg.norm(quats[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quats[..., 3:])
    scale = np.where(sine < _SMALL, 2.0, angle / np.maximum(sine, _SMALL))
    vectors: Array = quats[..., :3] * scale
    return vectors


def exp(rotvecs: Array) -> Array:
    """Return the unit quaternions of rotation vectors [rad]."""
    angle = np.linalg.norm(rotvecs, axis=-1, keepdims=True)
    half = 0.5 * np.sinc(angle / (2.0 * np.pi))  # sin(angle / 2) / angle
    return np.concatenate([rotvecs * half, np.cos(0.5 * angle)], axis=-1)


def difference(from_xyzw: Array, to_xyzw: Array) -> Array:
    """Return the rotation vectors that take ``from`` to ``to``, in the parent frame."""
    return log(multiply(to_xyzw, conjugate(from_xyzw)))


def rotated(quats_xyzw: Array, rotvecs: Array) -> Array:
    """Return the orientations turned by rotation vectors of the parent frame."""
    return multiply(exp(rotvecs), quats_xyzw)


def normalised(quats: Array, otherwise: Array) -> Array:
    """Return quaternions scaled to unit length; ``otherwise`` where they vanish."""
    norm = np.linalg.norm(quats, axis=-1, keepdims=True)
    unit: Array = np.where(norm < 1e-6, otherwise, quats / np.maximum(norm, 1e-6))
    return unit
