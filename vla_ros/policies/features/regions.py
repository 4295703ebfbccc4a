# SPDX-License-Identifier: Apache-2.0
"""Reuse of what convolutions made of an image: only the part that a change can reach is computed.

    changed   cells whose mean differs from that in the image they were last computed from
    write     the smallest rectangle around them, and a halo: all cells they have an effect on
    read      that, and one more halo: all cells that have an effect on what is written

Cells that are written are those of the whole image, exactly: outside the image there are zeros in
both cases, and inside every neighbour is read. One rectangle and not several, because halos of
several would overlap and be computed more than once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.features.cache import CacheCount, FeatureCacheConfig
from vla_ros.policies.features.patches import Image, Means, cell_means, patch_changes

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rectangle:
    """Rows and columns of cells, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, by: int, shape: tuple[int, int]) -> Rectangle:
        """Return it larger by so many cells on every side, inside the image."""
        return Rectangle(
            max(self.top - by, 0),
            min(self.bottom + by, shape[0]),
            max(self.left - by, 0),
            min(self.right + by, shape[1]),
        )

    def inside(self, outer: Rectangle) -> tuple[slice, slice]:
        """Return the index of this one in an array of the outer one."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)


def around(mask: Mask) -> Rectangle | None:
    """Return the smallest rectangle with all that is true; None without any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Rectangle(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


@dataclass(frozen=True)
class Work:
    """What one image needs: read this, write that; None: nothing is to be computed.

    Attributes:
        changed: the rectangle of cells that changed.
        means: of the image.
        is_new: nothing of before is kept.
    """

    count: CacheCount
    means: Means
    changed: Rectangle | None = None
    read: Rectangle | None = None
    write: Rectangle | None = None
    is_new: bool = False


class RegionCache:
    """The map of the newest image, and the image it was made of.

    Nothing changes between a look and its ``store``: a trunk that fails leaves it as it was.

    Args:
        cell_px: side of a cell of the map [px].
        halo: how far a cell has an effect, in cells.
        config: threshold and refresh; ``cell_px`` of it divides that of the map, and a share to
            reuse is 0 or 1: what is computed is one rectangle, and no choice of cells.

    Thread-safety: one thread.
    """

    def __init__(self, cell_px: int, halo: int, config: FeatureCacheConfig | None = None) -> None:
        self._config = config or FeatureCacheConfig()
        if cell_px % self._config.cell_px or halo < 0:
            raise ConfigError(
                f"cells of {cell_px} px must be multiples of {self._config.cell_px}, halo >= 0"
            )
        if self._config.min_reuse_ratio not in (0.0, 1.0):
            raise ConfigError(
                "min_reuse_ratio must be 0 or 1 where regions are computed, got "
                f"{self._config.min_reuse_ratio:g}"
            )
        self._per_cell, self._halo = cell_px // self._config.cell_px, halo
        self.clear()

    def clear(self) -> None:
        """Forget the map."""
        self._map: Array | None = None
        self._means: Means | None = None
        self._images = 0

    def look(self, rgb: Image) -> Work:
        """Return what of an image (H, W, 3) must be computed."""
        means = cell_means(rgb, self._config.cell_px)
        shape = (means.shape[0] // self._per_cell, means.shape[1] // self._per_cell)
        whole, cells = Rectangle(0, shape[0], 0, shape[1]), shape[0] * shape[1]
        old = self._means
        if old is None or old.shape != means.shape or self._images >= self._config.max_reuses:
            count = CacheCount(patches=cells, computed=cells)
            return Work(count, means, whole, whole, whole, is_new=True)
        changed = patch_changes(means, old, self._per_cell) > self._config.threshold
        rectangle = around(changed)
        hits = int((~changed).sum())
        if rectangle is None or self._config.min_reuse_ratio == 1.0:
            stale = int(changed.sum())
            return Work(CacheCount(patches=cells, hits=hits, stale=stale), means)
        write = rectangle.grown(self._halo, shape)
        read = write.grown(self._halo, shape)
        count = CacheCount(patches=cells, hits=hits, computed=read.cells)
        return Work(count, means, rectangle, read, write)

    def store(self, work: Work, computed: Array | None) -> Array:
        """Take the map (C, rows, columns) of what was to be read; return that of the whole image.

        Raises:
            ShapeError: if it has another size.
        """
        if work.changed is None or work.read is None or work.write is None:
            assert self._map is not None
            self._images += 1
            return self._map
        rows, columns = work.read.slices
        wanted = (rows.stop - rows.start, columns.stop - columns.start)
        if computed is None or computed.shape[1:] != wanted:
            found = None if computed is None else computed.shape[1:]
            raise ShapeError(f"a map of {wanted} cells expected, got {found}")
        if work.is_new:
            self._map, self._means, self._images = computed.copy(), work.means.copy(), 1
            return self._map
        assert self._map is not None
        assert self._means is not None
        self._images += 1
        # Cells around it that changed less are still those of the image they were computed from.
        fine = Rectangle(*(edge * self._per_cell for edge in _edges(work.changed))).slices
        self._means[fine] = work.means[fine]
        self._map[(slice(None), *work.write.slices)] = computed[
            (slice(None), *work.write.inside(work.read))
        ]
        return self._map


def _edges(r: Rectangle) -> tuple[int, int, int, int]:
    return r.top, r.bottom, r.left, r.right
