# SPDX-License-Identifier: Apache-2.0
"""What is computed anew and what is reused, on images whose changes are known."""

from __future__ import annotations

import numpy as np
import pytest
from feature_samples import NOISE, PATCH_PX, SIDE_PX, Table, differing_patches, random_table
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.features.cache import (
    CacheCount,
    FeatureCache,
    FeatureCacheConfig,
    FeatureKey,
    Lookup,
)
from vla_ros.policies.features.patches import (
    cell_means,
    patch_changes,
    patch_grid,
    threshold_above_noise,
)

KEY = FeatureKey(camera="c", instruction_id=1, instruction="red", encoder_version="v1")
ROWS = SIDE_PX // PATCH_PX
N = ROWS * ROWS
NEVER = 100_000


def make_cache(**settings: float) -> FeatureCache:
    return FeatureCache(PATCH_PX, FeatureCacheConfig(**{"max_reuses": NEVER, **settings}))


def see(cache: FeatureCache, rgb: np.ndarray, key: FeatureKey = KEY) -> tuple[Lookup, np.ndarray]:
    """One image through the cache; the feature of a patch is its pixels."""
    lookup = cache.look_up(key, rgb)
    patches = patch_grid(rgb, PATCH_PX)[lookup.compute]
    pixels_of = patches.reshape(len(patches), PATCH_PX**2 * 3).astype(np.float32)
    return lookup, cache.store(lookup, pixels_of)


def pixels(rgb: np.ndarray) -> np.ndarray:
    return patch_grid(rgb, PATCH_PX).reshape(ROWS, ROWS, -1).astype(np.float32)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_cell_means_are_means(cell_px: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    means = cell_means(rgb, cell_px)
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            cell = rgb[i * cell_px : (i + 1) * cell_px, j * cell_px : (j + 1) * cell_px]
            np.testing.assert_allclose(means[i, j], cell.mean(axis=(0, 1)), rtol=1e-5, atol=1e-4)


def test_a_change_of_one_cell_is_that_of_its_patch_alone() -> None:
    before = np.full((64, 64, 3), 100, dtype=np.uint8)
    after = before.copy()
    after[20:24, 36:40, 2] += 30  # blue of one cell, in patch (1, 2)
    changes = patch_changes(cell_means(after, 4), cell_means(before, 4), 4)
    expected = np.zeros((4, 4))
    expected[1, 2] = 30.0
    np.testing.assert_allclose(changes, expected, atol=1e-4)


def test_noise_alone_changes_nothing_and_the_threshold_is_not_far_above_it() -> None:
    rng = np.random.default_rng(0)
    table = random_table(rng)
    computed: dict[float, list[int]] = {}
    for n_sigma in (6.0, 1.5):
        cache = make_cache(threshold=threshold_above_noise(NOISE, 4, n_sigma))
        see(cache, table.seen(rng))
        computed[n_sigma] = [see(cache, table.seen(rng))[0].count.computed for _ in range(20)]
    assert max(computed[6.0]) == 0
    assert min(computed[1.5]) > 0.9 * N


def test_reused_features_are_those_of_the_image_they_were_computed_from() -> None:
    rng = np.random.default_rng(1)
    table = random_table(rng)
    cache = make_cache()
    first = table.seen(rng)
    see(cache, first)
    moved = table.teleported("red", rng)
    second = moved.seen(rng)
    lookup, features = see(cache, second)
    expected = np.where(lookup.compute[:, :, None], pixels(second), pixels(first))
    np.testing.assert_array_equal(features, expected)
    assert 0 < lookup.count.computed < N / 2


@pytest.mark.parametrize("seed", range(100))
def test_every_patch_of_a_teleported_object_is_computed_on_the_next_image(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    table = random_table(rng)
    cache = make_cache()
    for _ in range(3):
        see(cache, table.seen(rng))
    moved = table.teleported("red", rng)
    affected = differing_patches(table.drawn(), moved.drawn())
    lookup, _ = see(cache, moved.seen(rng))
    assert affected.any()
    assert lookup.compute[affected].all()
    untouched = ~differing_patches(table.drawn(), moved.drawn(), levels=0.5)
    assert lookup.compute[untouched].sum() <= np.abs(affected).sum()  # not by computing everything


@pytest.mark.parametrize("seed", range(10))
def test_forced_reuse_sees_no_teleport(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    table = random_table(rng)
    cache = make_cache(min_reuse_ratio=1.0)
    see(cache, table.seen(rng))
    lookup, _ = see(cache, table.teleported("red", rng).seen(rng))
    assert lookup.count.computed == 0
    assert lookup.count.stale > 0


def test_a_slow_change_is_noticed_although_no_image_differs_from_the_last() -> None:
    threshold, step = 8.0, 0.5
    cache = make_cache(threshold=threshold)
    base = np.full((SIDE_PX, SIDE_PX, 3), 100.0)
    last = np.zeros((ROWS, ROWS, PATCH_PX * PATCH_PX * 3))
    for k in range(100):
        base[:PATCH_PX, :PATCH_PX] = 100.0 + step * k
        rgb = base.astype(np.uint8)
        _, features = see(cache, rgb)
        assert np.abs(features - pixels(rgb)).max() <= threshold + 1.0
        if k:
            assert np.abs(pixels(rgb) - last).max() <= 1.0
        last = pixels(rgb)


def test_every_patch_has_its_turn_and_turns_are_spread() -> None:
    cache = make_cache(max_reuses=16)
    rgb = Table({}).seen(np.random.default_rng(2))
    see(cache, rgb)
    since, costs = np.zeros((ROWS, ROWS), dtype=int), []
    for _ in range(64):
        lookup, _ = see(cache, rgb)
        since = np.where(lookup.compute, 0, since + 1)
        assert since.max() < 16
        costs.append(lookup.count.computed)
        assert lookup.count.refreshed == lookup.count.computed
    assert max(costs) <= N // 16 + 1


def test_one_image_per_turn_reuses_nothing() -> None:
    cache = make_cache(max_reuses=1)
    rgb = Table({}).seen(np.random.default_rng(2))
    assert [see(cache, rgb)[0].count.computed for _ in range(3)] == [N, N, N]


def test_a_budget_takes_the_most_changed_first_and_catches_up() -> None:
    cache = make_cache(min_reuse_ratio=0.9)
    before = np.full((SIDE_PX, SIDE_PX, 3), 100, dtype=np.uint8)
    after = before.copy()
    after[:, : SIDE_PX // 4] += 40
    after[-PATCH_PX:, -PATCH_PX:] += 100  # the last patch has changed most
    see(cache, before)
    first, _ = see(cache, after)
    most = int(0.1 * N)
    assert first.count.computed == most
    assert first.compute[-1, -1]
    assert first.count.stale == 2 * ROWS + 1 - most
    for _ in range(10):
        last, features = see(cache, after)
        assert last.count.computed <= most
    assert last.count.stale == 0
    np.testing.assert_array_equal(features, pixels(after))


@pytest.mark.parametrize(
    "change",
    [
        {"instruction_id": 2},
        {"instruction": "blue"},
        {"encoder_version": "v2"},
    ],
)
def test_nothing_is_reused_under_another_key(change: dict[str, object]) -> None:
    cache = make_cache(min_reuse_ratio=1.0)  # not even when told to reuse everything
    rgb = Table({}).seen(np.random.default_rng(3))
    see(cache, rgb)
    other = FeatureKey(**{**KEY.__dict__, **change})
    lookup, _ = see(cache, rgb, other)
    assert lookup.count.computed == N
    assert lookup.count.hits == 0
    back, _ = see(cache, rgb)
    assert back.count.computed == N  # nor those of before, which may have been for other words


def test_cameras_do_not_share_features() -> None:
    cache = make_cache()
    rng = np.random.default_rng(4)
    a, b = Table({"red": (40, 40)}).seen(rng), Table({"red": (80, 80)}).seen(rng)
    other = FeatureKey(**{**KEY.__dict__, "camera": "d"})
    see(cache, a)
    see(cache, b, other)
    for rgb, key in ((a, KEY), (b, other)):
        lookup, features = see(cache, rgb, key)
        assert lookup.count.computed == 0
        np.testing.assert_array_equal(features, pixels(rgb))


def test_clear_forgets() -> None:
    cache = make_cache()
    rgb = Table({}).seen(np.random.default_rng(3))
    see(cache, rgb)
    cache.clear()
    assert see(cache, rgb)[0].count.computed == N


def test_another_image_size_is_computed_anew() -> None:
    cache = make_cache()
    see(cache, np.zeros((64, 64, 3), dtype=np.uint8))
    lookup, features = see(cache, np.zeros((64, 32, 3), dtype=np.uint8))
    assert lookup.count.computed == 8
    assert features.shape[:2] == (4, 2)


def test_what_is_returned_is_the_caller_s() -> None:
    cache = make_cache()
    rgb = Table({}).seen(np.random.default_rng(3))
    for _ in range(2):
        see(cache, rgb)[1][:] = 0.0
    np.testing.assert_array_equal(see(cache, rgb)[1], pixels(rgb))


def test_counts_add_up() -> None:
    rng = np.random.default_rng(6)
    table, total = random_table(rng), CacheCount()
    cache = make_cache(max_reuses=20, min_reuse_ratio=0.5)
    for k in range(30):
        table = table if k % 7 else table.teleported("red", rng)
        lookup, _ = see(cache, table.seen(rng))
        c = lookup.count
        assert c.computed == lookup.compute.sum()
        if k:
            assert c.hits + c.stale + (c.computed - c.refreshed) == c.patches == N
        total = total + c
    assert total.patches == 30 * N
    assert total.reuse_ratio == pytest.approx(1 - total.computed / total.patches)
    assert 0.7 < total.hit_rate < 1.0
    assert CacheCount().hit_rate == CacheCount().reuse_ratio == 0.0


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of cell_px = 4, got 10"):
        FeatureCache(10)
    with pytest.raises(ConfigError, match="min_reuse_ratio"):
        FeatureCacheConfig(min_reuse_ratio=1.5)
    with pytest.raises(ShapeError, match="patches of 16 px must fill"):
        patch_grid(np.zeros((40, 64, 3), dtype=np.uint8), 16)
    cache = make_cache()
    lookup = cache.look_up(KEY, np.zeros((64, 64, 3), dtype=np.uint8))
    with pytest.raises(ShapeError, match=r"\(16, 5\), got \(3, 5\)"):
        cache.store(lookup, np.zeros((3, 5), dtype=np.float32))
    cache.store(lookup, np.zeros((16, 5), dtype=np.float32))
    changed = cache.look_up(KEY, np.full((64, 64, 3), 99, dtype=np.uint8))
    with pytest.raises(ShapeError, match=r"\(16, 5\), got \(16, 6\)"):
        cache.store(changed, np.zeros((16, 6), dtype=np.float32))
