# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime beside PyTorch: same weights, same inputs, outputs compared."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from learning_samples import TINY

from vla_ros.bench.torch_policy import TARGETS, measure_torch, torch_peer
from vla_ros.cli import main
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning.export import export_policy, save_untrained


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("torch")
    save_untrained(folder / "checkpoint.npz", TINY)
    export_policy(folder / "checkpoint.npz", folder / "policy", "tiny")
    return folder / "policy", folder / "checkpoint.npz"


def test_both_halves_are_timed_and_compute_the_same(exported) -> None:
    import torch

    threads = torch.get_num_threads()
    results = {r.name: r for r in measure_torch(3, *exported)}
    assert set(results) == {"policy.slow_onnx_vs_torch", "policy.fast_onnx_vs_torch"}
    for name, result in results.items():
        assert result.ratio == pytest.approx(result.ours / result.alternative)
        assert 0.0 < result.difference <= 1e-4
        assert result.target == TARGETS[name.split(".")[1].split("_")[0]]
    assert torch.get_num_threads() == threads  # as it was


def test_the_command_takes_the_checkpoint(exported, capsys, tmp_path) -> None:
    policy, checkpoint = exported
    out = tmp_path / "out.json"
    arguments = ["policy", "bench", str(policy), "--checkpoint", str(checkpoint), "--repeats", "2"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert "policy.fast_onnx_vs_torch" in capsys.readouterr().out
    assert out.is_file()


def test_an_export_of_other_weights_is_noticed(exported, tmp_path) -> None:
    save_untrained(tmp_path / "other.npz", TINY, seed=1)
    with pytest.raises(PolicyError, match="outputs differ"):
        measure_torch(1, exported[0], tmp_path / "other.npz")


def test_a_graph_that_the_checkpoint_has_not_is_refused(exported) -> None:
    with pytest.raises(ConfigError, match="not velocity"):
        torch_peer(exported[1])(exported[0], "velocity", 1)
