# SPDX-License-Identifier: Apache-2.0
"""What convolutions made of an image, computed anew only where a change can reach."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.features.regions import Rectangle, RegionCache, Work, around

CELL_PX, HALO = 4, 2
ROWS, COLUMNS = 12, 20
CONFIG = FeatureCacheConfig(threshold=5.0, max_reuses=1000)


def trunk(rgb: np.ndarray) -> np.ndarray:
    """Cells, then two 3 x 3 sums with zeros outside, each bent: a map (1, rows, columns)."""
    x = rgb.reshape(rgb.shape[0] // CELL_PX, CELL_PX, -1, CELL_PX, 3).mean(axis=(1, 3, 4)) / 255
    for _ in range(2):
        padded = np.pad(x, 1)
        n, m = x.shape
        parts = [padded[i : i + n, j : j + m] * (1 + i + 3 * j) for i in range(3) for j in range(3)]
        x = np.tanh(sum(parts) / 20.0)
    return x[None].astype(np.float32)


def part_of(rgb: np.ndarray, work: Work) -> np.ndarray | None:
    if work.read is None:
        return None
    rows, columns = work.read.slices
    return trunk(
        rgb[
            CELL_PX * rows.start : CELL_PX * rows.stop,
            CELL_PX * columns.start : CELL_PX * columns.stop,
        ]
    )


def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (CELL_PX * ROWS, CELL_PX * COLUMNS, 3), np.uint8)


def test_the_map_is_that_of_the_whole_image_wherever_something_changes() -> None:
    rng = np.random.default_rng(0)
    cache, rgb = RegionCache(CELL_PX, HALO, CONFIG), image(rng)
    computed = 0
    for k in range(300):
        if k % 3:
            top, left = rng.integers(0, rgb.shape[0] - 8), rng.integers(0, rgb.shape[1] - 8)
            rgb = rgb.copy()
            rgb[top : top + 8, left : left + 8] = rng.integers(0, 256, 3, np.uint8)
        work = cache.look(rgb)
        found = cache.store(work, part_of(rgb, work))
        # Changes below the threshold stay; there were none but these squares.
        expected = trunk(rgb)
        assert np.abs(found - expected).max() < 0.05
        if work.write is not None:
            inside = (slice(None), *work.write.slices)
            np.testing.assert_allclose(found[inside], expected[inside], atol=0.05)
        computed += work.count.computed
    assert computed < 0.7 * 300 * ROWS * COLUMNS


def test_what_is_written_is_exact_at_the_edges_of_the_image_too() -> None:
    rng = np.random.default_rng(1)
    for top in (0, 5, ROWS - 1):
        for left in (0, 9, COLUMNS - 1):
            cache, rgb = RegionCache(CELL_PX, HALO, CONFIG), image(rng)
            cache.store(cache.look(rgb), trunk(rgb))
            after = rgb.copy()
            after[CELL_PX * top : CELL_PX * (top + 1), CELL_PX * left : CELL_PX * (left + 1)] ^= 128
            work = cache.look(after)
            assert work.changed == Rectangle(top, top + 1, left, left + 1)
            found = cache.store(work, part_of(after, work))
            np.testing.assert_allclose(found, trunk(after), atol=1e-6)


def test_an_image_that_stays_costs_nothing_and_slow_change_is_seen_in_the_end() -> None:
    rgb = np.full((CELL_PX * ROWS, CELL_PX * COLUMNS, 3), 100, np.uint8)
    cache = RegionCache(CELL_PX, HALO, CONFIG)
    cache.store(cache.look(rgb), trunk(rgb))
    seen = []
    for k in range(1, 13):
        brighter = rgb + np.uint8(k)  # one level from image to image
        work = cache.look(brighter)
        cache.store(work, part_of(brighter, work))
        seen.append(work.count.computed > 0)
    assert seen == [False] * 5 + [True] + [False] * 5 + [True]


def test_blind_by_a_budget_of_nothing() -> None:
    """The control: all is reused, and a change is not seen."""
    rng = np.random.default_rng(2)
    cache = RegionCache(CELL_PX, HALO, FeatureCacheConfig(threshold=5.0, min_reuse_ratio=1.0))
    first, other = image(rng), image(rng)
    before = cache.store(cache.look(first), trunk(first)).copy()
    work = cache.look(other)
    assert work.count.stale > 0
    assert np.array_equal(cache.store(work, None), before)


def test_every_so_many_images_all_is_computed() -> None:
    cache = RegionCache(CELL_PX, HALO, FeatureCacheConfig(max_reuses=3))
    rgb = image(np.random.default_rng(3))
    new = []
    for _ in range(7):
        work = cache.look(rgb)
        new.append(work.is_new)
        cache.store(work, part_of(rgb, work))
    assert new == [True, False, False, True, False, False, True]


def test_a_trunk_that_fails_leaves_the_cache_as_it_was() -> None:
    rng = np.random.default_rng(4)
    cache, rgb = RegionCache(CELL_PX, HALO, CONFIG), image(rng)
    cache.store(cache.look(rgb), trunk(rgb))
    after = rgb.copy()
    after[:8, :8] ^= 128
    work = cache.look(after)
    with pytest.raises(ShapeError, match="cells expected"):
        cache.store(work, np.zeros((1, 1, 1), np.float32))
    again = cache.look(after)
    assert again.changed == work.changed
    np.testing.assert_allclose(cache.store(again, part_of(after, again)), trunk(after), atol=1e-6)
    cache.clear()
    assert cache.look(after).is_new


def test_rectangles() -> None:
    mask = np.zeros((5, 6), bool)
    assert around(mask) is None
    mask[1, 2] = mask[3, 4] = True
    found = around(mask)
    assert found == Rectangle(1, 4, 2, 5)
    assert found.grown(2, (5, 6)) == Rectangle(0, 5, 0, 6)
    with pytest.raises(ConfigError, match="multiples"):
        RegionCache(6, 1)
