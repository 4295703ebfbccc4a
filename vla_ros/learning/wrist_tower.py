# SPDX-License-Identifier: Apache-2.0
"""Convolutions that see the wrist image; the slow trunk and the fast expert each have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vla_ros.learning.ops import constant, convolve, to_cells
from vla_ros.learning.parameters import Shapes, Weights, convolution
from vla_ros.learning.views import WRIST_SHAPE

if TYPE_CHECKING:
    from torch import Tensor

CELLS = (WRIST_SHAPE[0] // 4, WRIST_SHAPE[1] // 4)


def tower_shapes(name: str, channels: int) -> Shapes:
    """Return the weights of a tower."""
    return {
        **convolution(f"{name}/conv0", 3, channels // 2, 3),
        **convolution(f"{name}/conv1", channels // 2, channels, 3),
        **convolution(f"{name}/conv2", channels, channels, 3),
    }


def see_wrist(p: Weights, name: str, wrist: Tensor) -> Tensor:
    """Return the cells (B, 182, C) of images (B, 3, 52, 56)."""
    x = convolve(p, f"{name}/conv0", wrist, stride=2, padding=1).relu()
    x = convolve(p, f"{name}/conv1", x, stride=2, padding=1).relu()
    x = x + convolve(p, f"{name}/conv2", x, padding=1).relu()
    return to_cells(x)


def cell_places(like: Tensor) -> Tensor:
    """Return where the cells are in the image (182, 2): column and row, -1..1."""
    rows, columns = np.mgrid[: CELLS[0], : CELLS[1]]
    u = 2 * (columns + 0.5) / CELLS[1] - 1
    v = 2 * (rows + 0.5) / CELLS[0] - 1
    return constant(np.stack([u, v], axis=-1).reshape(-1, 2).astype(np.float32), like)
