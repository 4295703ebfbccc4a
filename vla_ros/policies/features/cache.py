# SPDX-License-Identifier: Apache-2.0
"""Which patches must be computed anew, and the features of the others.

A feature belongs to (camera, patch, instruction, version of the encoder) and is reused while the
patch looks as it did in the image that the feature was computed from. Not as in the last image: a
scene that changes slowly would never differ from the last image, and drift away from its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.features.encoder import Features
from vla_ros.policies.features.patches import Image, Means, cell_means, patch_changes

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class FeatureCacheConfig:
    """When a feature may be reused."""

    threshold: float = setting(
        8.0,
        "change of a cell's mean above which a patch is computed anew; threshold_above_noise()",
        unit="levels",
        ge=0.0,
        le=255.0,
    )
    cell_px: int = setting(4, "side of the cells that are compared", unit="px", ge=1, le=16)
    max_reuses: int = setting(
        50,
        "every patch is computed anew at least once in so many images; 1: nothing is reused",
        unit="images",
        ge=1,
        le=100_000,
    )
    min_reuse_ratio: float = setting(
        0.0,
        "at least this share of known patches is reused, changed or not: bounds the time of a call "
        "and makes the policy blind to what it has no share left for; 1: blind to everything",
        ge=0.0,
        le=1.0,
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """What features belong to, beside their patch; of another key nothing is reused."""

    camera: str
    instruction_id: int
    instruction: str
    encoder_version: str


@dataclass(frozen=True, kw_only=True)
class CacheCount:
    """What became of the patches of one call, or of several.

    Attributes:
        patches: all of them.
        hits: patches that were known and had not changed.
        refreshed: of these, computed anew because it was their turn.
        computed: patches computed in this call.
        stale: changed patches that were reused because of ``min_reuse_ratio``.
    """

    patches: int = 0
    hits: int = 0
    refreshed: int = 0
    computed: int = 0
    stale: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of patches that were known and unchanged, 0 to 1."""
        return self.hits / self.patches if self.patches else 0.0

    @property
    def reuse_ratio(self) -> float:
        """Share of patches that were not computed, 0 to 1."""
        return 1.0 - self.computed / self.patches if self.patches else 0.0

    def __add__(self, other: CacheCount) -> CacheCount:
        return CacheCount(
            patches=self.patches + other.patches,
            hits=self.hits + other.hits,
            refreshed=self.refreshed + other.refreshed,
            computed=self.computed + other.computed,
            stale=self.stale + other.stale,
        )


def reuse_diagnostics(total: CacheCount, last: CacheCount) -> dict[str, float | str]:
    """Return hit rate, reuse ratio and stale patches of all calls and the last, for people."""
    return {
        "feature_hit_rate": total.hit_rate,
        "feature_reuse_ratio": total.reuse_ratio,
        "feature_hit_rate_last": last.hit_rate,
        "feature_reuse_ratio_last": last.reuse_ratio,
        "feature_patches_stale": total.stale,
    }


@dataclass(frozen=True)
class Lookup:
    """What one image needs: ``compute`` (rows, columns) is true where a patch must be computed."""

    key: FeatureKey
    compute: Mask
    count: CacheCount
    means: Means
    image: int


@dataclass
class _Entry:
    """What is known of one camera: features (rows, columns, ...) and what they were made of."""

    key: FeatureKey
    means: Means
    features: Features
    image: int


class FeatureCache:
    """Features of the newest image of each camera, patch by patch.

    Memory: one set of features and one image of cell means per camera. Nothing changes between a
    look-up and its ``store``: an encoder that fails leaves the cache as it was.

    Thread-safety: one thread.
    """

    def __init__(self, patch_px: int, config: FeatureCacheConfig | None = None) -> None:
        self._config = config or FeatureCacheConfig()
        if patch_px < 1 or patch_px % self._config.cell_px:
            raise ConfigError(
                f"patch_px must be a multiple of cell_px = {self._config.cell_px}, got {patch_px}"
            )
        self._cells_per_patch = patch_px // self._config.cell_px
        self._entries: dict[str, _Entry] = {}

    def clear(self) -> None:
        """Forget every feature."""
        self._entries.clear()

    def look_up(self, key: FeatureKey, rgb: Image) -> Lookup:
        """Return which patches of an image (H, W, 3) must be computed."""
        means = cell_means(rgb, self._config.cell_px)
        n = self._cells_per_patch
        grid = (means.shape[0] // n, means.shape[1] // n)
        entry = self._entries.get(key.camera)
        if entry is None or entry.key != key or entry.means.shape != means.shape:
            count = CacheCount(patches=grid[0] * grid[1], computed=grid[0] * grid[1])
            return Lookup(key, np.ones(grid, dtype=bool), count, means, 0)
        return self._compare(entry, means)

    def store(self, lookup: Lookup, computed: Features) -> Features:
        """Take the features (n, ...) of the patches to compute; return all (rows, columns, ...).

        Raises:
            ShapeError: if they are not as many, or not shaped as those they replace.
        """
        n = int(lookup.compute.sum())
        entry = self._entries.get(lookup.key.camera)
        if lookup.image == 0 or entry is None:
            return self._store_all(lookup, computed)
        entry.image = lookup.image
        if n == 0:
            return entry.features.copy()
        _check_shape(computed, (n, *entry.features.shape[2:]))
        cells = np.repeat(lookup.compute, self._cells_per_patch, axis=0)
        cells = np.repeat(cells, self._cells_per_patch, axis=1)
        entry.means[cells] = lookup.means[cells]
        entry.features[lookup.compute] = computed
        return entry.features.copy()

    def _store_all(self, lookup: Lookup, computed: Features) -> Features:
        _check_shape(computed, (lookup.compute.size, *computed.shape[1:]))
        features = computed.reshape(*lookup.compute.shape, *computed.shape[1:]).copy()
        self._entries[lookup.key.camera] = _Entry(lookup.key, lookup.means, features, 0)
        return features.copy()

    def _compare(self, entry: _Entry, means: Means) -> Lookup:
        c = self._config
        changes = patch_changes(means, entry.means, self._cells_per_patch)
        changed = changes > c.threshold
        image = entry.image + 1
        # Each patch has its own turn, so that the cost of an image does not jump.
        turn = (np.arange(changed.size) + image) % c.max_reuses == 0
        due = turn.reshape(changed.shape)
        compute = self._within_budget(changes, changed, due)
        count = CacheCount(
            patches=changed.size,
            hits=int((~changed).sum()),
            refreshed=int((compute & ~changed).sum()),
            computed=int(compute.sum()),
            stale=int((changed & ~compute).sum()),
        )
        return Lookup(entry.key, compute, count, means, image)

    def _within_budget(self, changes: NDArray[np.float32], changed: Mask, due: Mask) -> Mask:
        """Return what to compute: the most changed first, then those whose turn it is."""
        wanted = changed | due
        most = int((1.0 - self._config.min_reuse_ratio) * wanted.size)
        if int(wanted.sum()) <= most:
            return wanted
        urgency = np.where(changed, 1.0 + changes, np.where(due, 0.5, -1.0)).ravel()
        chosen = np.zeros(wanted.size, dtype=bool)
        chosen[np.argsort(-urgency, kind="stable")[:most]] = True
        return chosen.reshape(wanted.shape) & wanted


def _check_shape(features: Features, shape: tuple[int, ...]) -> None:
    if features.shape != shape:
        raise ShapeError(f"features must have shape {shape}, got {features.shape}")
