# SPDX-License-Identifier: Apache-2.0
"""What is asked of ONNX Runtime on machines with a GPU, which the tests need none for."""

from __future__ import annotations

import pytest
from onnx_samples import write_split

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.providers import (
    SessionSettings,
    attempts,
    profile_shapes,
    provider_options,
)

CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture
def graph(tmp_path):
    path = write_split(
        tmp_path,
        graphs__fast__inputs__state__shape=["batch", 4],
        graphs__fast__inputs__latent_age_s__shape=["batch", 1],
    )
    return open_policy(path).manifest.graphs["fast"]


def test_best_provider_comes_first_and_helpers_follow(graph):
    found, notes = attempts(SessionSettings(), graph, [CPU, TRT, CUDA])
    assert [a.provider for a in found] == ["tensorrt", "cuda", "cpu"]
    assert [name for name, _ in found[0].providers] == [TRT, CUDA, CPU]
    assert [name for name, _ in found[1].providers] == [CUDA, CPU]
    assert notes == []


def test_forced_provider_is_the_only_one_tried(graph):
    found, notes = attempts(SessionSettings(provider="cuda"), graph, [CPU, CUDA, TRT])
    assert [a.provider for a in found] == ["cuda"]
    assert notes == []


def test_missing_providers_are_noted_and_forced_ones_refused(graph):
    found, notes = attempts(SessionSettings(), graph, [CPU, CUDA])
    assert [a.provider for a in found] == ["cuda", "cpu"]
    assert notes == ["this ONNX Runtime is built without tensorrt"]
    with pytest.raises(ConfigError, match=r"'tensorrt' is not available.*available: cuda, cpu"):
        attempts(SessionSettings(provider="tensorrt"), graph, [CPU, CUDA])


def test_named_batch_gets_a_profile_of_one(graph):
    assert profile_shapes(graph) == ("latent_age_s:1x1,state:1x4",) * 2
    options = provider_options("tensorrt", SessionSettings(), graph)
    for edge in ("min", "opt", "max"):
        assert options[f"trt_profile_{edge}_shapes"] == "latent_age_s:1x1,state:1x4"


def test_settings_reach_tensorrt_and_its_caches_depend_on_graph_and_precision(graph, tmp_path):
    settings = SessionSettings(
        engine_cache=str(tmp_path), fp16=True, cuda_graph=True, workspace_mib=64, device_id=1
    )
    options = provider_options("tensorrt", settings, graph)
    assert options["trt_max_workspace_size"] == str(64 * 2**20)
    assert (options["trt_fp16_enable"], options["trt_cuda_graph_enable"]) == ("True", "True")
    assert options["device_id"] == "1"
    folder = options["trt_engine_cache_path"]
    assert folder == options["trt_timing_cache_path"] == str(settings.cache_folder(graph))
    assert graph.sha256[:32] in folder
    plain = SessionSettings(engine_cache=str(tmp_path)).cache_folder(graph)
    assert str(plain) != folder


def test_every_option_is_text(graph):
    for name in ("tensorrt", "cuda", "cpu"):
        options = provider_options(name, SessionSettings(gpu_memory_mib=100), graph)
        assert all(isinstance(v, str) for pair in options.items() for v in pair)


@pytest.mark.parametrize(
    ("name", "value"), [("provider", "tpu"), ("threads", 0), ("optimisation_level", 6)]
)
def test_setting_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        SessionSettings(**{name: value})
