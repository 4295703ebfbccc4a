# SPDX-License-Identifier: Apache-2.0
"""The cached policy beside the uncached one: what it says, what it computes, what it forgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feature_samples import (
    CAMERA,
    NOISE,
    OBJECT_PX,
    PATCH_PX,
    SIDE_PX,
    CountingEncoder,
    Table,
    frame_of,
    random_table,
    seen_by,
    small_encoder,
)

from vla_ros.errors import InstructionError, PolicyError, ShapeError
from vla_ros.latency.codec import decode_tensors, encode_tensors
from vla_ros.policies.diagnostics import Diagnosed
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.features.cached_slow import CachedSlowPolicy, UncachedSlowPolicy
from vla_ros.policies.features.patch_mlp import PatchMlpEncoder

N = (SIDE_PX // PATCH_PX) ** 2
NEVER = 100_000
CLOSE = OBJECT_PX / 2 / SIDE_PX  # the place that is found lies on the square


def make_policy(encoder: object = None, **settings: float) -> CachedSlowPolicy:
    config = FeatureCacheConfig(**{"max_reuses": NEVER, **settings})
    return CachedSlowPolicy(encoder or small_encoder(), config)  # type: ignore[arg-type]


def finds(policy: CachedSlowPolicy | UncachedSlowPolicy, image: np.ndarray, table: Table) -> bool:
    place = np.asarray(policy.encode(seen_by(image))["places"])[0, 0]
    return bool(np.abs(place - table.centre("red")).max() < CLOSE)


def test_only_changed_patches_are_computed_and_the_latent_is_that_of_all() -> None:
    rng = np.random.default_rng(0)
    encoder = CountingEncoder(small_encoder())
    policy, whole = make_policy(encoder, threshold=0.0), UncachedSlowPolicy(small_encoder())
    table = random_table(rng)
    for k in range(12):
        table = table if k % 4 else table.teleported("red", rng)
        observation = seen_by(np.rint(table.drawn()).astype(np.uint8))
        latent, expected = policy.encode(observation), whole.encode(observation)
        for name, value in expected.items():
            # Products of other numbers of rows differ in the last bits.
            np.testing.assert_allclose(latent[name], value, atol=1e-5)
    assert encoder.calls[0] == N
    assert 0 < max(encoder.calls[1:]) < N / 2
    assert len(encoder.calls) == 3  # of 12 images: nothing is computed where nothing changed


def test_success_is_that_of_the_uncached_policy_over_a_mixed_episode() -> None:
    """Static, then only the arm moves, then the object is teleported: 100 seeds, paired."""
    computed, found, missed = 0, 0, []
    for seed in range(100):
        rng = np.random.default_rng([seed, 7])
        policy, whole = make_policy(), UncachedSlowPolicy(small_encoder())
        table = random_table(rng)
        images = [table, table, table]
        images += [replace(table, arm_px=5 * k) for k in range(4)]
        images += [images[-1].teleported("red", rng)] * 2
        for shown in images:
            image = shown.seen(rng)
            ours, theirs = finds(policy, image, shown), finds(whole, image, shown)
            found += theirs
            missed += [seed] if theirs and not ours else []
        computed += policy.total.computed
    assert found > 0.98 * 900
    assert missed == []
    assert computed < 900 * N / 3


def test_forced_reuse_loses_the_object_after_a_teleport() -> None:
    successes = {0.0: 0, 1.0: 0}
    for ratio in successes:
        for seed in range(50):
            rng = np.random.default_rng([seed, 8])
            policy, table = make_policy(min_reuse_ratio=ratio), random_table(rng)
            assert finds(policy, table.seen(rng), table)
            moved = table.teleported("red", rng)
            successes[ratio] += finds(policy, moved.seen(rng), moved)
    assert successes[0.0] == 50
    assert successes[1.0] <= 2


def test_a_new_instruction_and_new_weights_give_the_latent_of_a_new_policy() -> None:
    rng = np.random.default_rng(1)
    table = Table({"red": (40, 20), "blue": (80, 90)})
    image = table.seen(rng)
    encoder = CountingEncoder(small_encoder())
    policy = make_policy(encoder, min_reuse_ratio=1.0)
    policy.encode(seen_by(image))
    asked = seen_by(image, instruction="the blue one", instruction_id=2)
    blue = policy.encode(asked)
    np.testing.assert_array_equal(
        blue["places"], UncachedSlowPolicy(small_encoder()).encode(asked)["places"]
    )
    other = small_encoder(seed=9)
    encoder.inner.load(other.weights)
    swapped = policy.encode(asked)
    np.testing.assert_array_equal(
        swapped["tokens"], UncachedSlowPolicy(other).encode(asked)["tokens"]
    )
    assert np.abs(swapped["tokens"] - blue["tokens"]).max() > 1e-2
    assert encoder.calls == [N, N, N]


def test_versions_are_those_of_the_weights() -> None:
    a, b, other = small_encoder(), small_encoder(), small_encoder(seed=1)
    assert a.version == b.version != other.version
    weights = [w.copy() for w in a.weights]
    weights[-1][0, 0] += 1e-6
    a.load(tuple(weights))
    assert a.version != b.version
    a.load(b.weights)
    assert a.version == b.version


def test_a_failure_of_the_encoder_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    table = random_table(rng)
    encoder = CountingEncoder(small_encoder())
    policy = make_policy(encoder)
    policy.encode(seen_by(table.seen(rng)))
    moved = table.teleported("red", rng)
    encoder.failure = PolicyError("out of memory")
    with pytest.raises(PolicyError, match="out of memory"):
        policy.encode(seen_by(moved.seen(rng)))
    encoder.failure = None
    assert finds(policy, moved.seen(rng), moved)
    assert encoder.calls[1] == encoder.calls[2] > 0


def test_features_that_are_not_finite_are_not_kept() -> None:
    encoder = CountingEncoder(small_encoder())
    weights = [w.copy() for w in encoder.inner.weights]
    good = encoder.inner.weights
    weights[0][0, 0] = np.nan
    encoder.inner.load(tuple(weights))
    policy = make_policy(encoder)
    image = Table({"red": (40, 40)}).seen(np.random.default_rng(3))
    with pytest.raises(PolicyError, match="not finite"):
        policy.encode(seen_by(image))
    encoder.inner.load(good)
    assert np.isfinite(policy.encode(seen_by(image))["tokens"]).all()


def test_reset_forgets_features() -> None:
    encoder = CountingEncoder(small_encoder())
    policy = make_policy(encoder)
    image = Table({"red": (40, 40)}).seen(np.random.default_rng(3))
    policy.encode(seen_by(image))
    policy.reset()
    policy.encode(seen_by(image))
    assert encoder.calls == [N, N]


def test_cameras_go_through_the_encoder_together() -> None:
    rng = np.random.default_rng(4)
    a, b = Table({"red": (40, 20)}), Table({"red": (80, 90)})
    encoder = CountingEncoder(small_encoder(("camera_0", "camera_1")))
    policy = make_policy(encoder)
    latent = policy.encode(seen_by(a.seen(rng), b.seen(rng)))
    places = np.asarray(latent["places"])
    assert np.abs(places[0, 0] - a.centre("red")).max() < CLOSE
    assert np.abs(places[1, 0] - b.centre("red")).max() < CLOSE
    moved = b.teleported("red", rng)
    places = np.asarray(policy.encode(seen_by(a.seen(rng), moved.seen(rng)))["places"])
    assert np.abs(places[0, 0] - a.centre("red")).max() < CLOSE
    assert np.abs(places[1, 0] - moved.centre("red")).max() < CLOSE
    assert len(encoder.calls) == 2
    assert encoder.calls[0] == 2 * N
    assert encoder.calls[1] < N / 2


def test_diagnostics_have_hit_rate_and_reuse_ratio() -> None:
    rng = np.random.default_rng(5)
    policy, table = make_policy(), random_table(rng)
    for _ in range(4):
        policy.encode(seen_by(table.seen(rng)))
    assert isinstance(policy, Diagnosed)
    said = policy.diagnostics()
    assert said["feature_hit_rate"] == pytest.approx(0.75)
    assert said["feature_reuse_ratio"] == pytest.approx(0.75)
    assert said["feature_hit_rate_last"] == said["feature_reuse_ratio_last"] == 1.0
    assert said["feature_patches_stale"] == 0


def test_bad_observations_are_refused_by_name() -> None:
    policy = make_policy()
    whole = UncachedSlowPolicy(small_encoder())
    image = Table({}).seen(np.random.default_rng(6))
    for p in (policy, whole):
        with pytest.raises(PolicyError, match="no image of 'scene_camera'; got none"):
            p.encode(replace(seen_by(image), frames={}))
        with pytest.raises(ShapeError, match="patches of 16 px"):
            p.encode(replace(seen_by(image), frames={CAMERA: frame_of(image[:100])}))
        with pytest.raises(InstructionError, match="red"):
            p.check_instruction("the nice one")


def test_an_encoder_that_returns_too_few_features_is_refused() -> None:
    class Short(CountingEncoder):
        def encode_patches(self, patches: np.ndarray) -> np.ndarray:
            return super().encode_patches(patches)[1:]

    image = Table({}).seen(np.random.default_rng(6))
    with pytest.raises(ShapeError, match=f"features of {N} patches expected, got {N - 1}"):
        make_policy(Short(small_encoder())).encode(seen_by(image))


def test_the_latent_survives_the_way_to_the_fast_half() -> None:
    latent = make_policy().encode(seen_by(Table({"red": (40, 40)}).seen(np.random.default_rng(7))))
    back = decode_tensors(encode_tensors(latent))
    for name, value in latent.items():
        np.testing.assert_array_equal(back[name], value)


def test_attention_finds_the_colour_that_the_words_name() -> None:
    rng = np.random.default_rng(8)
    table = Table({"red": (40, 20), "blue": (80, 90)})
    image = table.seen(rng, NOISE)
    encoder = PatchMlpEncoder()
    whole = UncachedSlowPolicy(encoder)
    places = np.asarray(whole.encode(seen_by(image, instruction="blue into red"))["places"])
    assert np.abs(places[0, 0] - table.centre("blue")).max() < CLOSE
    assert np.abs(places[0, 1] - table.centre("red")).max() < CLOSE
