# SPDX-License-Identifier: Apache-2.0
"""A slow half with its cache beside the same without: latents, what it forgets and refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cached_samples import CUT_PX, PX, cache_section, cells_model, write_cached
from onnx_flow_samples import write_chunk
from onnx_samples import MS, NOW, TEXT, frame, observation, write_split

from vla_ros import cli
from vla_ros.errors import ConfigError, PolicyError, StaleDataError, VlaRosError
from vla_ros.latency.stamp import StampFlags
from vla_ros.latency.stamping import InferenceTimes, stamp_latent
from vla_ros.policies.around import Around, has_reused
from vla_ros.policies.base import Capable, LatentContract, LooksAtCameras, TimesItself
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.load import load_slow
from vla_ros.policies.onnx.providers import SessionSettings, provider_options
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.registry import make_slow_policy
from vla_ros.types import Observation

EXACT = FeatureCacheConfig(threshold=0.0, cell_px=1, max_reuses=1000)
PLAIN = PolicyRuntime(session=SessionSettings(provider="cpu"))
OTHER_TEXT = "put the cube in the bowl"


def caching(config: FeatureCacheConfig = EXACT) -> PolicyRuntime:
    return replace(PLAIN, cache=config)


def seen(scene: np.ndarray, wrist: int = 51, words: str = TEXT, age_ms: int = 0) -> Observation:
    shown = replace(frame("scene", capture_ns=NOW - age_ms * MS), rgb=scene)
    return observation(words, (shown, frame("wrist", wrist)))


def noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (24, 24, 3), np.uint8)


def latent(policy: object, what: Observation) -> np.ndarray:
    return np.asarray(policy.encode(what)["latent"])[0, 0]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cached(tmp_path_factory.mktemp("cached"))


def test_latents_are_those_of_the_slow_half_wherever_a_change_is(path: Path) -> None:
    whole, cached = load_slow(path, PLAIN), load_slow(path, caching())
    assert isinstance(cached, CachedOnnxSlowPolicy)
    rng = np.random.default_rng(0)
    scene = noise(rng)
    for k in range(40):
        scene = scene.copy()
        top, left = rng.integers(CUT_PX, 22), rng.integers(0, 22)
        scene[top : top + 2, left : left + 2] = rng.integers(0, 256, 3, np.uint8)
        what = seen(scene, k, (TEXT, OTHER_TEXT)[k % 2])
        np.testing.assert_allclose(latent(cached, what), latent(whole, what), rtol=1e-4, atol=1e-4)
        if k:
            assert 0.0 <= cached.last.reuse_ratio < 1.0
            assert cached.written[(top - CUT_PX) // PX, left // PX]
    assert 0.1 < cached.total.reuse_ratio < 0.9


def test_a_new_instruction_uses_nothing_that_was_made_of_the_old_one(path: Path) -> None:
    """Nothing tells the cache of the new words: they are in no feature that it keeps."""
    whole, cached = load_slow(path, PLAIN), load_slow(path, caching())
    scene = noise(np.random.default_rng(1))
    found = []
    for words in (TEXT, OTHER_TEXT, TEXT):
        found.append(latent(cached, seen(scene, words=words)))
        np.testing.assert_allclose(found[-1], latent(whole, seen(scene, words=words)), rtol=1e-5)
    assert cached.last.computed == 0  # type: ignore[attr-defined]
    assert not np.allclose(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    cells = open_policy(path).manifest.demand_cache().cells
    assert {tensor.role.value for tensor in cells.inputs} == {"images", "part_origin"}


def test_new_weights_use_nothing_that_was_made_by_the_old_ones(path: Path, tmp_path: Path) -> None:
    other = write_cached(tmp_path / "other", seed=1)
    scene = noise(np.random.default_rng(2))
    old, new = load_slow(path, caching()), load_slow(other, caching())
    old.encode(seen(scene))
    np.testing.assert_allclose(
        latent(new, seen(scene)), latent(load_slow(other, PLAIN), seen(scene)), rtol=1e-5
    )
    assert new.last.reuse_ratio == 0.0  # type: ignore[attr-defined]
    assert new.model_hash != old.model_hash  # type: ignore[attr-defined]
    # Features of one and what makes a latent of them of another: refused before they are loaded.
    (other / "cache/cells.onnx").write_bytes((path / "cache/cells.onnx").read_bytes())
    with pytest.raises(ConfigError, match=r"cells\.onnx .* is not the file of the manifest"):
        load_slow(other, caching())


def test_after_a_reset_everything_is_computed(path: Path) -> None:
    cached = CachedOnnxSlowPolicy(open_policy(path), caching())
    scene = noise(np.random.default_rng(3))
    for _ in range(2):
        cached.encode(seen(scene))
    assert cached.last.reuse_ratio == 1.0
    cached.reset()
    cached.encode(seen(scene))
    assert cached.last.reuse_ratio == 0.0


def test_wrist_and_words_are_heeded_where_all_of_the_scene_is_reused(path: Path) -> None:
    blind = load_slow(path, caching(FeatureCacheConfig(min_reuse_ratio=1.0, max_reuses=100_000)))
    rng = np.random.default_rng(4)
    first = latent(blind, seen(noise(rng)))
    later = latent(blind, seen(noise(rng), wrist=200, words=OTHER_TEXT))
    assert later[0] == first[0]  # what was seen of the scene is as old as the episode
    assert later[1] == pytest.approx(200.0)
    assert later[2] != first[2]
    assert blind.last.stale > 0  # type: ignore[attr-defined]


def test_the_stamp_says_whether_earlier_images_are_in_a_latent(path: Path) -> None:
    whole, cached = load_slow(path, PLAIN), load_slow(path, caching())
    what = seen(noise(np.random.default_rng(8)))
    flags = []
    for policy in (cached, cached, Around(cached), whole):
        tensors = cached.encode(what) if policy is not whole else whole.encode(what)
        times = InferenceTimes(request_ns=1, start_ns=1, end_ns=2, publish_ns=3)
        stamp = stamp_latent(
            what, tensors, times, seq=1, validity_ns=MS, is_cached=has_reused(policy)
        )
        assert stamp.capture_oldest_ns == what.capture_oldest_ns
        flags.append(StampFlags.CACHED in stamp.flags)
    assert flags == [False, True, True, False]


def test_a_share_to_reuse_that_regions_cannot_keep_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"min_reuse_ratio must be 0 or 1 .* got 0\.5"):
        load_slow(path, caching(FeatureCacheConfig(min_reuse_ratio=0.5)))


def test_it_says_of_itself_what_the_slow_half_says(path: Path) -> None:
    whole, cached = load_slow(path, PLAIN), load_slow(path, caching())
    for policy in (whole, cached):
        for face in (Capable, LatentContract, LooksAtCameras, TimesItself):
            assert isinstance(policy, face), face
    for name in (
        *("cameras", "max_age_s", "capabilities", "model_hash", "latent_schema_hash"),
        "latent_bytes",
    ):
        assert getattr(cached, name) == getattr(whole, name), name
    assert cached.name == "cached(tiny)"


def test_time_is_told_by_parts_and_reuse_by_numbers(path: Path) -> None:
    clock = itertools.count(0, 1000)
    runtime = replace(caching(), now_ns=lambda: next(clock))
    cached = CachedOnnxSlowPolicy(open_policy(path), runtime)
    scene = noise(np.random.default_rng(5))
    for _ in range(2):
        before = next(clock)
        cached.encode(seen(scene))
        timing = cached.last_timing
        assert timing is not None
        assert timing.total_ns == next(clock) - before - 2000  # the first and the last reading
        assert timing.pre_ns > 0 < timing.compute_ns
    said = cached.diagnostics()
    assert said["feature_hit_rate"] == said["feature_reuse_ratio"] == 0.5
    assert said["feature_reuse_ratio_last"] == 1.0
    assert "1 thread" in str(said["cells.runs_on"])
    assert float(said["fuse.compute_ms_p50"]) > 0.0


def test_what_is_missing_or_old_is_refused_and_what_was_known_stays_known(path: Path) -> None:
    cached = CachedOnnxSlowPolicy(open_policy(path), caching())
    scene = noise(np.random.default_rng(6))
    cached.encode(seen(scene))
    with pytest.raises(PolicyError, match="no image of 'scene'"):
        cached.encode(observation(frames=(frame("wrist"),)))
    with pytest.raises(PolicyError, match="no image of 'wrist'"):
        cached.encode(observation(frames=(replace(frame("scene"), rgb=scene),)))
    with pytest.raises(StaleDataError, match="'scene' is 600 ms old"):
        cached.encode(seen(scene, age_ms=600))
    cached.encode(seen(scene))
    assert cached.last.computed == 0


def section(place: str, value: object) -> dict:
    data = cache_section()
    *parents, key = place.split(".")
    at = data
    for parent in parents:
        at = at[parent]
    at[key] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("cell_px", 2, r"scene must be \[1, 10, 12, 3\] with steps \[0, 2, 2, 0\]"),
        ("cell_px", 0, "cache: cell_px must be 1 to 256 px, got 0 px"),
        ("halo_cells", -1, "cache: halo_cells must be 0 to 1024, got -1"),
        ("halo_cells", 1.5, "halo_cells must be int"),
        ("halo", 1, "cache: unknown key 'halo'"),
        ("cells.inputs.scene.steps", [0, 4, 4], "steps must be 4 numbers from 0"),
        ("cells.inputs.scene.steps", [0, 4, 0, 0], r"scene must be .* got .*\[0, 4, 0, 0\]"),
        ("cells.inputs.scene.cameras", ["wrist"], "cache sees wrist, graphs.slow scene, wrist"),
        ("cells.inputs.scene.role", "state", "cells"),
        ("cells.inputs.origin.dtype", "int32", r"part_origin must be int64 \[1, 2\]"),
        ("cells.outputs.features.steps", [0, 0, 1, 0], r"must have steps \[0, 0, 1, 1\]"),
        ("fuse.inputs.features.shape", [1, 1, 5, 5], r"\[1, 1, 5, 5\], but cells makes it"),
        ("fuse.inputs.features.steps", [0, 0, 1, 1], "only tensors of cache.cells have steps"),
        ("fuse.inputs.tokens.shape", [1, 6], "must be given the same instruction"),
        ("fuse.outputs.latent.shape", [1, 1, 5], "cache.fuse makes latent .* graphs.slow makes"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(
    tmp_path: Path, place: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_cached(tmp_path, section=section(place, value))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"height": 20}, r"scene is uint8 \[1, 20, '4\*columns', 3\], the manifest says"),
        ({"least": 2}, r"of the smallest inputs features is \[1, 1, 2, 1\], the manifest says"),
    ],
)
def test_a_graph_that_makes_no_cells_of_parts_is_refused(
    tmp_path: Path, cells: dict, message: str
) -> None:
    folder = open_policy(write_cached(tmp_path, cells=cells_model(**cells)))
    with pytest.raises(VlaRosError, match=message):
        GraphSession(folder, "cells", PLAIN)


def test_a_part_of_no_whole_cells_is_refused_before_the_run(path: Path) -> None:
    session = GraphSession(open_policy(path), "cells", PLAIN)
    origin = np.zeros((1, 2), dtype=np.int64)
    for size in ((1, 6, 4, 3), (1, 24, 4, 3), (1, 0, 4, 3)):
        with pytest.raises(PolicyError, match="scene must be uint8 at most"):
            session.run({"scene": np.zeros(size, dtype=np.uint8), "origin": origin})


def test_profiles_of_a_gpu_reach_from_one_cell_to_the_whole_scene(path: Path) -> None:
    graph = open_policy(path).manifest.demand_cache().cells
    options = provider_options("tensorrt", SessionSettings(cuda_graph=True), graph)
    assert options["trt_profile_min_shapes"] == "scene:1x4x4x3"
    assert options["trt_profile_max_shapes"] == "scene:1x20x24x3"
    assert options["trt_cuda_graph_enable"] == "False"  # would replay one size


def test_policies_without_a_cache_say_so(tmp_path: Path) -> None:
    split = write_split(tmp_path / "split")
    with pytest.raises(ConfigError, match="tiny cannot be run with a cache: its manifest has no"):
        load_slow(split, caching())
    with pytest.raises(ConfigError, match="policy in one piece"):
        load_slow(write_chunk(tmp_path / "chunk"), caching())
    for name, message in (
        (f"onnx:{split}", "no section cache"),
        ("classical", "'classical' has no cache: only exports"),
        ("remote:unix:/nowhere", "vla-ros policy serve --cache"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_slow_policy(name, caching())


def test_check_and_show_include_the_cache(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "check", str(path)]) == 0
    text = capsys.readouterr().out
    for what in ("file cache/cells.onnx", "weights of fuse", "graph cells", "latent with cache"):
        assert what in text, what
    assert cli.main(["policy", "show", str(path)]) == 0
    text = capsys.readouterr().out
    for what in ("cells of 4 px, halo of 1", "graph fuse", "steps [0, 4, 4, 0]", "part_origin"):
        assert what in text, what


def test_check_finds_a_cache_of_other_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_cached(tmp_path, cells=cells_model(seed=7))
    assert cli.main(["policy", "check", str(other)]) == 1
    assert "the cache is not that of graph slow" in capsys.readouterr().out
