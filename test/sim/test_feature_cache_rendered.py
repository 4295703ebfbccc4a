# SPDX-License-Identifier: Apache-2.0
"""Cached features on rendered images of the cell: the arm moves, a cube is put elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("mujoco")
if importlib.util.find_spec("franky_sim") is None:
    pytest.skip("the FR3 model is not installed", allow_module_level=True)

from feature_samples import seen_by
from rendered_cell import INFO, MODEL, skip_without_opengl

from vla_ros.perception import tick_code
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.features.cached_slow import CachedSlowPolicy, UncachedSlowPolicy
from vla_ros.policies.features.patch_mlp import PatchMlpConfig, PatchMlpEncoder
from vla_ros.sim.rendering import SceneRenderer
from vla_ros.sim.tasks import apply_layout, sample_layout

pytestmark = pytest.mark.sim

CAMERA = "scene_camera"
NOISE = 2.0  # levels
PATCH_PX = 16
ARM = 0  # index of the first joint in qpos


@pytest.fixture(scope="module")
def renderer() -> Iterator[SceneRenderer]:
    skip_without_opengl()
    with SceneRenderer(MODEL, (CAMERA,)) as renderer:
        yield renderer


def drawn(renderer: SceneRenderer, qpos: np.ndarray, tick_ns: int) -> np.ndarray:
    return renderer.render(qpos, None, tick_ns)[CAMERA].rgb


def noisy(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = rgb + NOISE * rng.standard_normal(rgb.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def make_policy(**settings: float) -> CachedSlowPolicy:
    encoder = PatchMlpEncoder((CAMERA,), PatchMlpConfig(width=32, layers=1, features=16))
    return CachedSlowPolicy(encoder, FeatureCacheConfig(**{"max_reuses": 100_000, **settings}))


def differing_patches(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Patches (rows, columns) of which at least 16 pixels differ by more than 30 levels."""
    n = before.shape[0] // PATCH_PX
    differs = np.abs(before.astype(int) - after).max(axis=2) > 30
    return differs.reshape(n, PATCH_PX, n, PATCH_PX).sum(axis=(1, 3)) >= 16


class RememberingEncoder(PatchMlpEncoder):
    """Remembers the patches of the last call."""

    patches = np.zeros((0, PATCH_PX, PATCH_PX, 3), dtype=np.uint8)

    def encode_patches(self, patches: np.ndarray) -> np.ndarray:
        self.patches = patches
        return super().encode_patches(patches)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_cube_put_elsewhere_is_computed_on_the_next_image(
    renderer: SceneRenderer, ratio: float
) -> None:
    config = PatchMlpConfig(width=32, layers=1, features=16)
    noticed = trials = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 11])
        encoder = RememberingEncoder((CAMERA,), config)
        policy = CachedSlowPolicy(encoder, FeatureCacheConfig(min_reuse_ratio=ratio))
        qpos = apply_layout(INFO, sample_layout(seed))
        there = apply_layout(INFO, sample_layout(seed + 1000))
        moved = qpos.copy()
        start = INFO.cube_qpos["red"]
        moved[start : start + 7] = there[start : start + 7]
        before, after = (drawn(renderer, q, k) for k, q in enumerate((qpos, moved)))
        affected = differing_patches(before, after)
        if not affected.any():
            continue  # hidden behind the arm in both places
        policy.encode(seen_by(noisy(before, rng)))
        encoder.patches = encoder.patches[:0]
        image = noisy(after, rng)
        policy.encode(seen_by(image))
        computed = {patch.tobytes() for patch in encoder.patches}
        rows, columns = np.nonzero(affected)
        cut = [
            image[PATCH_PX * r : PATCH_PX * (r + 1), PATCH_PX * c : PATCH_PX * (c + 1)]
            for r, c in zip(rows, columns, strict=True)
        ]
        trials += 1
        noticed += all(patch.tobytes() in computed for patch in cut)
        assert len(computed) < 0.5 * (224 // PATCH_PX) ** 2
    assert trials >= 90
    assert noticed == (trials if ratio == 0.0 else 0)


def test_a_static_cell_is_reused_but_for_the_tick_code(renderer: SceneRenderer) -> None:
    rng = np.random.default_rng(1)
    policy = make_policy()
    qpos = apply_layout(INFO, sample_layout(3))
    for k in range(10):
        policy.encode(seen_by(noisy(drawn(renderer, qpos, (1 + 977 * k) * 1_000_000), rng)))
    # The code of the time changes in every image; it lies in the last row of patches.
    assert policy.last.computed <= -(-tick_code.CODE_WIDTH // PATCH_PX)
    assert policy.last.reuse_ratio > 0.9


def test_an_arm_in_motion_leaves_most_of_the_cell_reused(renderer: SceneRenderer) -> None:
    rng = np.random.default_rng(2)
    policy = make_policy()
    whole = UncachedSlowPolicy(
        PatchMlpEncoder((CAMERA,), PatchMlpConfig(width=32, layers=1, features=16))
    )
    qpos = apply_layout(INFO, sample_layout(3))
    errors = []
    for k in range(20):
        qpos[ARM] += 0.02  # 0.2 rad/s at 10 Hz
        image = noisy(drawn(renderer, qpos, k), rng)
        ours, theirs = (p.encode(seen_by(image))["places"] for p in (policy, whole))
        errors.append(np.abs(np.asarray(ours) - theirs)[0, 0].max())
    assert policy.total.reuse_ratio > 0.5
    assert max(errors) < 0.02  # of the image's width
