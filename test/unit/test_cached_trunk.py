# SPDX-License-Identifier: Apache-2.0
"""The cache that is exported with the learned policy gives the latents of its slow half."""

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

from vla_ros.errors import InstructionError
from vla_ros.learning import export
from vla_ros.learning.cache_export import cache_specs
from vla_ros.learning.manifest import CACHE_FOLDER, CAMERAS, VOCABULARY_FILE, write_manifest
from vla_ros.learning.model import initial_weights
from vla_ros.learning.trunk import halo_cells
from vla_ros.learning.views import CELL_PX, SCENE_ROWS
from vla_ros.learning.vocabulary import default_vocabulary
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.load import load_slow
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.types import CameraFrame, CameraIntrinsics, Observation

WORDS, OTHER_WORDS = "put the red cube in the cyan bowl", "put the blue cube in the purple bowl"
EXACT = FeatureCacheConfig(threshold=0.0, cell_px=1, max_reuses=1000)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slow half and its cache; every export takes seconds, and nobody runs the fast half."""
    folder = tmp_path_factory.mktemp("trunk")
    weights = initial_weights(TINY, 0)
    (folder / CACHE_FOLDER).mkdir()
    export.export_and_compare(export.graph_specs(weights, TINY)[0], TINY, folder)
    for spec in cache_specs(weights, TINY):
        export.export_and_compare(spec, TINY, folder / CACHE_FOLDER)
    (folder / "fast.onnx").write_bytes(b"not read")
    (folder / VOCABULARY_FILE).write_text(default_vocabulary().to_json(), encoding="utf-8")
    write_manifest(folder, "tiny", Kind.SPLIT, ("slow", "fast"), TINY, "", has_cache=True)
    return folder


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


def test_latents_are_those_of_the_whole_trunk_wherever_a_square_is(exported: Path) -> None:
    whole = load_slow(exported)
    cached = CachedOnnxSlowPolicy(open_policy(exported), PolicyRuntime(cache=EXACT))
    rng = np.random.default_rng(0)
    scene, wrist = (rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(2))
    for k in range(25):
        scene, wrist = scene.copy(), rng.integers(0, 256, (224, 224, 3), np.uint8)
        top = rng.integers(SCENE_ROWS[0], SCENE_ROWS[1] - 12)
        left = rng.integers(0, 212)
        scene[top : top + 12, left : left + 12] = rng.integers(0, 256, 3, np.uint8)
        # Other words in the middle of it, and nobody tells the cache.
        observation = seen(scene, wrist, (WORDS, OTHER_WORDS)[k % 2])
        found, right = cached.encode(observation)["latent"], whole.encode(observation)["latent"]
        np.testing.assert_allclose(found, right, atol=1e-4)
        if k:
            assert 0.0 < cached.last.reuse_ratio < 1.0
            assert cached.written[(top - SCENE_ROWS[0]) // CELL_PX, left // CELL_PX]


def test_the_manifest_says_what_the_trunk_is(exported: Path) -> None:
    spec = open_policy(exported).manifest.demand_cache()
    assert (spec.cell_px, spec.halo_cells) == (CELL_PX, halo_cells(TINY))
    assert set(open_policy(exported).manifest.all_files) == {
        *("slow.onnx", "fast.onnx", "vocabulary.json", "cache/cells.onnx", "cache/fuse.onnx"),
    }
    cached = load_slow(exported, PolicyRuntime(cache=FeatureCacheConfig()))
    with pytest.raises(InstructionError, match="juggle"):
        cached.check_instruction("juggle")
