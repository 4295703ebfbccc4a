# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy``: every thing verified is said, the first one that is wrong ends it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx_flow_samples import write_chunk
from onnx_samples import BASE_ROWS, endless_model, fast_model, write_split

from vla_ros import cli
from vla_ros.commands.policy_bench import BenchOptions
from vla_ros.errors import ConfigError


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_split(tmp_path / "policy")


def run(capsys, *arguments: object) -> tuple[int, str]:
    status = cli.main(["policy", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_check_says_what_it_verified(capsys, policy):
    status, text = run(capsys, "check", policy)
    assert status == 0
    assert "FAIL" not in text
    for what in (
        *("manifest ", "file slow.onnx", "file fast.onnx", "file vocabulary.json"),
        *("weights of slow", "instruction", "graph slow", "graph fast", "ONNX Runtime"),
        *("latent of black images", "rows of noise for images", "schema"),
    ):
        assert what in text, what


def test_check_of_a_policy_in_one_piece_tries_its_guidance(capsys, tmp_path):
    status, text = run(capsys, "check", write_chunk(tmp_path), "--provider", "cpu")
    assert status == 0
    assert "rows of black images" in text
    assert "guided rows" in text


def nan_rows() -> np.ndarray:
    rows = BASE_ROWS.copy()
    rows[0, 0, 0] = np.nan
    return rows


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: (p / "slow.onnx").write_bytes(b"x"), "slow.onnx (1 bytes) is not the file of"),
        (lambda p: (p / "vocabulary.json").unlink(), "vocabulary.json cannot be read"),
        (lambda p: write_split(p, fast=fast_model(nan_rows())), "actions is not finite"),
        (lambda p: (p / "manifest.yaml").write_text("format: 1"), "name is missing"),
        (lambda p: (p / "manifest.yaml").unlink(), "manifest.yaml cannot be read"),
    ],
)
def test_check_fails_with_the_reason(capsys, policy, break_it, message):
    break_it(policy)
    status, text = run(capsys, "check", policy)
    assert status == 1
    assert text.splitlines()[-1].startswith("FAIL  ")
    assert message in text


def test_check_of_a_model_that_hangs_comes_to_an_end(capsys, tmp_path):
    path = write_split(tmp_path, fast=endless_model())
    status, text = run(capsys, "check", path, "--limit-s", "0.05")
    assert status == 1
    assert text.splitlines()[-1].startswith("FAIL  tiny/")
    assert "took longer than 0.05 s: ended" in text


def test_check_can_be_given_words(capsys, policy):
    assert run(capsys, "check", policy, "--instruction", "put the red cube")[0] == 0
    status, text = run(capsys, "check", policy, "--instruction", "put the blue cube")
    assert status == 1
    assert "'blue' is not understood" in text


def test_provider_that_is_not_there_fails_the_check(capsys, policy):
    status, text = run(capsys, "check", policy / "manifest.yaml", "--provider", "tensorrt")
    assert status == 1
    assert "'tensorrt' is not available in this ONNX Runtime; available: cpu" in text


def test_show_prints_the_contract(capsys, policy):
    status, text = run(capsys, "show", policy)
    assert status == 0
    for what in (
        *("tiny  (split policy", "good for    2 s", "rows        8 of 10 columns, 50.0 ms apart"),
        *("graph slow", "uint8", "images of scene, wrist", "instruction by vocabulary.json"),
        *("state: ref_position_m, gripper_width_m", "sha256"),
    ):
        assert what in text, what


def test_bench_times_every_graph_and_writes_the_results(capsys, policy, tmp_path):
    out = tmp_path / "out" / "bench.json"
    status, text = run(
        capsys,
        *("bench", policy, "--providers", "cpu", "--threads", "1,2", "--repeats", 3, "--out", out),
    )
    assert status == 0
    results = json.loads(out.read_text())
    assert [(r["graph"], r["threads"]) for r in results] == [
        ("slow", 1),
        ("fast", 1),
        ("slow", 2),
        ("fast", 2),
    ]
    assert all(r["n"] == 3 and r["total_p99"] >= r["total_p50"] > 0 for r in results)
    assert "p50" in text


def echo(folder, graph, threads):
    """A peer that computes nothing; the largest output of ours is then the difference."""
    shape = {"slow": ("latent", (1, 1, 4)), "fast": ("actions", BASE_ROWS.shape)}[graph]
    assert folder.is_dir()
    assert threads == 1
    return lambda feeds: {shape[0]: np.zeros(shape[1])}


def test_bench_beside_another_runtime_compares_time_and_outputs(capsys, policy, tmp_path):
    out = tmp_path / "bench.json"
    status, text = run(
        capsys,
        *("bench", policy, "--providers", "cpu", "--repeats", 3, "--out", out),
        *("--beside", f"{__name__}:echo", "--beside-name", "nothing"),
    )
    assert status == 0
    names = [r["name"] for r in json.loads(out.read_text())]
    assert names == ["policy.slow_onnx_vs_nothing", "policy.fast_onnx_vs_nothing"]
    assert "outputs differ by at most 1" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"providers": "cpu,tpu"}, "providers must be among .* got 'tpu'"),
        ({"threads": "two"}, "threads must be whole numbers, got 'two'"),
        ({"threads": "0"}, "threads must be 1 to 64, got 0"),
        ({"repeats": 0}, "repeats must be 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        BenchOptions(**options)


@pytest.mark.parametrize("where", ["nomodule:f", "json:nothing", "json", ""])
def test_peer_that_is_not_there_is_refused(policy, where, capsys):
    from vla_ros.bench.policy import load_peer

    with pytest.raises(ConfigError, match="--beside must be module:function"):
        load_peer(where)
