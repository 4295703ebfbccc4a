# SPDX-License-Identifier: Apache-2.0
"""A made-up large policy, here a tiny one on the CPU: the same way from weights to table."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from vla_ros.bench.gpu_policy import made_up_feeds, measure_large
from vla_ros.bench.large_policy import forward, stored, write_large_policy
from vla_ros.bench.large_sizes import SIZES, LargePolicy, Transformer, parameters
from vla_ros.bench.together import Rates, to_markdown
from vla_ros.cli import main
from vla_ros.commands.policy_bench_gpu import BenchGpuOptions
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.inspection import inspect_policy
from vla_ros.policies.onnx.providers import CPU, SessionSettings, provider_options
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime

TINY = SIZES["tiny"]
QUICK = Rates(seconds=0.1, rounds=1, slow_hz=50.0, fast_hz=200.0)
RUNTIME = PolicyRuntime(session=SessionSettings(provider=CPU), report=lambda text: None)
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_large_policy(tmp_path_factory.mktemp("large") / "policy", TINY)


def test_the_large_one_has_three_billion_weights() -> None:
    assert parameters(SIZES["3b"], "slow") == pytest.approx(3e9, rel=0.01)
    assert 0.1e9 < parameters(SIZES["3b"], "fast") < 0.5e9


def test_weights_lie_in_files_that_the_manifest_lists(export) -> None:
    for half in ("slow", "fast"):
        assert (export / f"{half}.bin").stat().st_size == 2 * parameters(TINY, half)
        assert (export / f"{half}.onnx").stat().st_size < 50_000
    assert {"slow.bin", "fast.bin"} <= set(open_policy(export).manifest.files)


def test_the_runtime_takes_the_export_as_any_other(export) -> None:
    found = list(inspect_policy(open_policy(export), RUNTIME, ""))
    assert any("rows" in f.detail for f in found)


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
@pytest.mark.parametrize("half", ["slow", "fast"])
def test_pytorch_computes_the_same_from_the_same_file(export, half: str) -> None:
    import torch

    folder = open_policy(export)
    feeds = made_up_feeds(folder)[half]
    (found,) = GraphSession(folder, half, RUNTIME).run(feeds)[0].values()
    weights = {n: torch.from_numpy(np.array(v)) for n, v in stored(export, TINY, half).items()}
    with torch.inference_mode():
        right = forward(TINY, half, weights, "cpu")(**feeds).numpy()
    assert found.shape == right.shape
    assert found.std() > 0.01
    np.testing.assert_allclose(found, right, atol=5e-3)  # 16-bit floats, in another order


def test_backends_are_run_one_after_the_other_and_a_missing_one_says_why(export) -> None:
    backends = ["cpu", *(["torch"] if HAS_TORCH else []), "cuda"]
    results = {r.backend: r for r in measure_large(export, TINY, backends, QUICK)}
    assert list(results) == backends
    for name in backends[:-1]:
        result = results[name]
        assert result.problem == ""
        assert result.n_fast > 0
        assert result.n_slow > 0
        assert result.fast_p99_ms >= result.fast_p50_ms > 0.0
        assert result.fast_alone_p99_ms >= result.fast_alone_p50_ms > 0.0
        assert result.difference < 5e-3
    if "CUDAExecutionProvider" not in _providers():
        assert "cuda" in results["cuda"].problem
        assert "not available" in to_markdown(list(results.values()), "about")


def _providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def test_the_command_writes_table_and_csv_and_keeps_the_export(tmp_path, capsys) -> None:
    arguments = ["policy", "bench-gpu", "--size", "tiny", "--backends", "cpu", "--rounds", "1"]
    arguments += ["--seconds", "0.2", "--folder", str(tmp_path / "p"), "--out", str(tmp_path / "o")]
    for _ in range(2):  # the second time it is there already
        assert main(arguments) == 0
    assert "| cpu |" in capsys.readouterr().out
    with (tmp_path / "o" / "bench_gpu.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["size"] == "tiny"
    assert float(row["fast_p99_ms"]) > 0.0


def test_an_export_of_another_size_in_the_folder_is_refused(export) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        write_large_policy(export, TINY)
    other = LargePolicy(slow=Transformer(layers=3))
    with pytest.raises(ConfigError, match="another size"):
        measure_large(export, other, ["cpu"], QUICK)


@pytest.mark.skipif("CUDAExecutionProvider" in _providers(), reason="there is a GPU")
def test_without_a_gpu_it_is_skipped_aloud(capsys, tmp_path) -> None:
    assert main(["policy", "bench-gpu", "--out", str(tmp_path / "o")]) == 0
    assert "skipped" in capsys.readouterr().out
    assert not (tmp_path / "o").exists()


def test_tensorrt_is_handed_large_weights_by_pointer(export) -> None:
    graph = open_policy(export).manifest.graphs["slow"]
    settings = SessionSettings(weights_by_pointer=True)
    assert provider_options("tensorrt", settings, graph)["trt_load_user_initializer"] == "True"
    assert "trt_load_user_initializer" not in provider_options("tensorrt", SessionSettings(), graph)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        Transformer(width=100, heads=3)
    with pytest.raises(ConfigError, match="multiple of 16"):
        LargePolicy(side_px=100)
    with pytest.raises(ConfigError, match="backends"):
        BenchGpuOptions(backends="tpu")


@pytest.mark.gpu
def test_on_a_gpu_both_halves_keep_their_rates(tmp_path) -> None:
    size = SIZES["small"]
    path = write_large_policy(tmp_path / "policy", size)
    for result in measure_large(path, size, ["cuda", "torch"], Rates(seconds=3.0, rounds=1)):
        assert result.problem == ""
        assert result.is_at_rate
