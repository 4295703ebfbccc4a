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


def from_matrices(R: Array) -> Array:
    """Return unit quaternions (n, 4) of rotation matrices (n, 3, 3), neighbours of equal sign.

    The largest of the four components is computed first, so it is stable at every angle. q and -q
    are the same rotation; each is given the sign nearest to the one before, so that what
    interpolates between rows does not go the long way round.
    """
    trace = np.trace(R, axis1=1, axis2=2)
    diagonal = np.diagonal(R, axis1=1, axis2=2)
    largest = np.argmax(np.column_stack([diagonal, trace]), axis=1)
    n = np.arange(len(R))
    candidates = np.empty((len(R), 4, 4))  # by the component that is largest
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        candidates[:, i, i] = 1.0 + 2.0 * R[:, i, i] - trace
        candidates[:, i, j] = R[:, j, i] + R[:, i, j]
        candidates[:, i, k] = R[:, k, i] + R[:, i, k]
        candidates[:, i, 3] = R[:, k, j] - R[:, j, k]
        candidates[:, 3, i] = R[:, k, j] - R[:, j, k]
    candidates[:, 3, 3] = 1.0 + trace
    quats: Array = candidates[n, largest]
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    flips = np.where(np.sum(quats[1:] * quats[:-1], axis=1) < 0.0, -1.0, 1.0)
    quats[1:] *= np.cumprod(flips)[:, None]
    return quats


def to_matrices(quats_xyzw: Array) -> Array:
    """Return the rotation matrices (n, 3, 3) of unit quaternions (n, 4)."""
    x, y, z, w = np.moveaxis(np.asarray(quats_xyzw), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices: Array = np.moveaxis(np.array(rows), -1, 0)
    return matrices
