# SPDX-License-Identifier: Apache-2.0
"""The trunk with a cache gives the latents of the trunk without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from learning_samples import TINY
from strategy_samples import make_observation

from vla_ros.errors import InstructionError, PolicyError
from vla_ros.learning.cached_trunk import CachedTrunkPolicy, export_cached
from vla_ros.learning.export import export_policy, save_untrained
from vla_ros.learning.manifest import CAMERAS
from vla_ros.learning.views import SCENE_ROWS
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.onnx.load import load_slow
from vla_ros.types import CameraFrame, CameraIntrinsics, Observation

WORDS, OTHER_WORDS = "put the red cube in the cyan bowl", "put the blue cube in the purple bowl"
EXACT = FeatureCacheConfig(threshold=0.0, cell_px=1, max_reuses=1000)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("trunk")
    save_untrained(folder / "checkpoint.npz", TINY)
    export_policy(folder / "checkpoint.npz", folder / "policy", "tiny")
    export_cached(folder / "checkpoint.npz", folder / "cached")
    return folder / "policy", folder / "cached"


def seen(scene: np.ndarray, wrist: np.ndarray, words: str = WORDS) -> Observation:
    frames = {
        name: CameraFrame(
            name=name,
            rgb=rgb,
            depth_m=None,
            intrinsics=CameraIntrinsics(width=224, height=224, fx=200, fy=200, cx=112, cy=112),
            T_base_camera=np.eye(4),
            capture_ns=1,
        )
        for name, rgb in zip(CAMERAS, (scene, wrist), strict=True)
    }
    return replace(make_observation(), instruction=words, frames=frames)


def test_latents_are_those_of_the_whole_trunk_wherever_a_square_is(exported) -> None:
    whole, cached = load_slow(exported[0]), CachedTrunkPolicy(exported[1], EXACT)
    rng = np.random.default_rng(0)
    scene, wrist = (rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(2))
    for k in range(25):
        scene, wrist = scene.copy(), rng.integers(0, 256, (224, 224, 3), np.uint8)
        top = rng.integers(SCENE_ROWS[0], SCENE_ROWS[1] - 12)
        left = rng.integers(0, 212)
        scene[top : top + 12, left : left + 12] = rng.integers(0, 256, 3, np.uint8)
        observation = seen(scene, wrist, (WORDS, OTHER_WORDS)[k % 2])
        found, right = cached.encode(observation)["latent"], whole.encode(observation)["latent"]
        np.testing.assert_allclose(found, right, atol=1e-4)
        if k:
            assert 0.0 < cached.last.reuse_ratio < 1.0
            row, column = (top - SCENE_ROWS[0]) // 4, left // 4
            assert cached.written[row, column]


def test_a_scene_that_stays_is_not_computed_but_words_and_wrist_are_heeded(exported) -> None:
    whole, cached = load_slow(exported[0]), CachedTrunkPolicy(exported[1])
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 256, (224, 224, 3), np.uint8)
    for words in (WORDS, OTHER_WORDS, WORDS):
        observation = seen(scene, rng.integers(0, 256, (224, 224, 3), np.uint8), words)
        np.testing.assert_allclose(
            cached.encode(observation)["latent"], whole.encode(observation)["latent"], atol=1e-4
        )
    assert cached.last.computed == 0
    assert cached.diagnostics()["feature_reuse_ratio_last"] == 1.0
    cached.reset()
    cached.encode(observation)
    assert cached.last.reuse_ratio == 0.0


def test_what_is_missing_or_not_understood_is_refused(exported) -> None:
    cached = CachedTrunkPolicy(exported[1])
    with pytest.raises(PolicyError, match="scene_camera"):
        cached.encode(make_observation())
    with pytest.raises(InstructionError, match="juggle"):
        cached.check_instruction("juggle")
