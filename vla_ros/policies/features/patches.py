# SPDX-License-Identifier: Apache-2.0
"""Images as patches, and how much a patch differs from what it was.

    change(patch) = max over its cells and colours of |mean(cell now) - mean(cell then)|

A cell is a few pixels wide. Noise of sigma levels in both images leaves sqrt(2) sigma / cell_px in
the difference of two means, so a threshold far above the noise is still far below what an object
of the size of a cell does; a mean over the patch would dilute the object, a maximum over pixels
would be lost in the noise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError

Image = NDArray[np.uint8]
Means = NDArray[np.float32]


def patch_grid(rgb: Image, patch_px: int) -> Image:
    """Return a view (rows, columns, patch_px, patch_px, 3) of an image (H, W, 3).

    Raises:
        ShapeError: if patches do not fill the image.
    """
    height, width = rgb.shape[:2]
    if rgb.ndim != 3 or rgb.shape[2] != 3 or height % patch_px or width % patch_px:
        raise ShapeError(
            f"patches of {patch_px} px must fill an image (H, W, 3), got {tuple(rgb.shape)}"
        )
    grid = rgb.reshape(height // patch_px, patch_px, width // patch_px, patch_px, 3)
    return grid.swapaxes(1, 2)


def cell_means(rgb: Image, cell_px: int) -> Means:
    """Return the means (H / cell_px, W / cell_px, 3) of square cells [levels, 0 to 255]."""
    height, width = rgb.shape[:2]
    # Rows first: sums along contiguous memory are several times faster.
    columns = rgb.reshape(height // cell_px, cell_px, width * 3).sum(axis=1, dtype=np.uint16)
    cells = columns.reshape(height // cell_px, width // cell_px, cell_px, 3)
    means: Means = cells.sum(axis=2, dtype=np.uint32).astype(np.float32) / np.float32(cell_px**2)
    return means


def patch_changes(now: Means, then: Means, cells_per_patch: int) -> NDArray[np.float32]:
    """Return the change (rows, columns) of each patch [levels] between two sets of cell means."""
    n = cells_per_patch
    rows, columns = now.shape[0] // n, now.shape[1] // n
    difference = np.abs(now - then).reshape(rows, n, columns, n, 3)
    changes: NDArray[np.float32] = difference.max(axis=(1, 3, 4))
    return changes


def threshold_above_noise(noise_sigma: float, cell_px: int, n_sigma: float = 6.0) -> float:
    """Return the change [levels] that noise alone stays below, ``n_sigma`` of its own deviation.

    ``noise_sigma``: standard deviation of one pixel in one image [levels], independent of others.
    """
    return n_sigma * math.sqrt(2.0) * noise_sigma / cell_px
