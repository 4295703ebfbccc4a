# SPDX-License-Identifier: Apache-2.0
"""An exported split policy, from images and words to rows, and what it refuses on the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx_samples import (
    AGE_TO_Y,
    DT_NS,
    LATENT_TO_Z,
    MS,
    NOW,
    VOCABULARY,
    H,
    description,
    frame,
    latent,
    observation,
    robot_state,
    write_split,
)

from vla_ros.errors import ConfigError, InstructionError, PolicyError, StaleDataError
from vla_ros.latency.stamping import schema_hash
from vla_ros.policies import base
from vla_ros.policies.diagnostics import Diagnosed
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxInstructionCheck, OnnxSlowPolicy
from vla_ros.policies.registry import (
    make_fast_policy,
    make_instruction_check,
    make_slow_policy,
    resolve_policy_name,
)

QUIET = PolicyRuntime(report=lambda text: None)
TEXT = "put the red cube in the bowl"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_split(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def slow(path) -> OnnxSlowPolicy:
    return OnnxSlowPolicy(open_policy(path), QUIET)


@pytest.fixture
def fast(path) -> OnnxFastPolicy:
    return OnnxFastPolicy(open_policy(path), QUIET)


def test_latent_is_what_the_graph_makes_of_images_and_words(slow):
    frames = (frame("scene", 0), frame("wrist", 255))
    tensors = slow.encode(observation(frames=frames))
    words = sum(VOCABULARY[word] for word in TEXT.split())
    np.testing.assert_allclose(tensors["latent"], [[[0.5, words, 0.0, 0.0]]], atol=1e-6)
    again = slow.encode(observation("put the cube in the bowl", frames=frames))
    assert again["latent"][0, 0, 1] == words - VOCABULARY["red"]


def test_latents_do_not_share_memory(slow):
    first = slow.encode(observation())["latent"]
    kept = first.copy()
    slow.encode(observation(frames=(frame("scene", 9), frame("wrist", 9))))
    np.testing.assert_array_equal(first, kept)


def test_rows_follow_from_latent_age_and_reference(fast):
    state = robot_state(position=(0.4, -0.1, 0.3))
    seen = dataclasses.replace(observation(), state=state)
    chunk = fast.decode(latent(0.5, age_ms=300), seen, NOW)
    expected = np.array([[0.4 + 0.01 * i, -0.1 + 0.3 * AGE_TO_Y, 0.3] for i in range(H)])
    expected[:, 2] += 0.5 * LATENT_TO_Z
    np.testing.assert_allclose(chunk.positions, expected, atol=1e-6)
    np.testing.assert_allclose(np.abs(chunk.quats_xyzw), np.tile([1.0, 0, 0, 0], (H, 1)), atol=1e-6)
    np.testing.assert_allclose(chunk.gripper_width_m, 0.04, atol=1e-7)
    assert (chunk.target0_ns, chunk.dt_ns, chunk.horizon) == (NOW, DT_NS, H)


def test_age_grows_with_time_on_the_same_latent(fast):
    ages = [
        fast.decode(latent(0.0, age_ms=100), observation(), NOW + k * 50 * MS).positions[0, 1]
        for k in range(4)
    ]
    np.testing.assert_allclose(np.diff(ages), 0.05 * AGE_TO_Y, atol=1e-6)


def test_policy_says_what_it_can_do_and_needs(slow, fast):
    for policy in (slow, fast):
        assert isinstance(policy, base.LatentContract)
        assert isinstance(policy, base.Capable)
        assert isinstance(policy, base.TimesItself)
        assert isinstance(policy, Diagnosed)
    assert slow.cameras == ("scene", "wrist")
    assert fast.cameras == ()
    assert fast.capabilities.has_split_latent
    assert fast.capabilities.has_age_input
    assert (slow.latent_schema_hash, slow.model_hash) == (fast.latent_schema_hash, fast.model_hash)
    assert slow.latent_bytes == 16


def test_schema_depends_on_the_normalisation_and_the_weights_on_the_graphs(path, slow, tmp_path):
    other = write_split(tmp_path, normalisation_sha256="9" * 64)
    changed = OnnxSlowPolicy(open_policy(other), QUIET)
    assert changed.latent_schema_hash != slow.latent_schema_hash
    assert changed.model_hash == slow.model_hash
    tensors = slow.encode(observation())
    latent_alone = {"latent": tensors["latent"]}
    assert slow.latent_schema_hash == schema_hash(latent_alone, "0" * 64)
    assert slow.latent_schema_hash != schema_hash(latent_alone)


def test_image_of_a_simulated_camera_brings_the_proof_of_its_age(slow):
    assert "tick_code" not in slow.encode(observation())
    wide = (frame("scene", size=200), frame("wrist", size=200))
    assert slow.encode(observation(frames=wide))["tick_code"].shape == (8, 200, 3)


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        ((frame("scene"),), PolicyError, r"no image of 'wrist'; got \['scene'\]"),
        ((), PolicyError, "no image of 'scene'; got none"),
        (
            (frame("scene", capture_ns=NOW - 600 * MS), frame("wrist")),
            StaleDataError,
            "the image of 'scene' is 600 ms old, at most 500 ms allowed",
        ),
    ],
)
def test_image_that_is_missing_or_old_is_refused(slow, frames, error, message):
    with pytest.raises(error, match=message):
        slow.encode(observation(frames=frames))


def test_unknown_word_is_refused_with_those_that_are_known(slow, path):
    for check in (slow, make_instruction_check(f"onnx:{path}")):
        check.check_instruction(TEXT)
        with pytest.raises(InstructionError, match="'green' is not understood; known words: bowl"):
            check.check_instruction("put the green cube in the bowl")
    with pytest.raises(InstructionError):
        slow.encode(observation("stop"))


def test_instructions_are_checked_without_the_weights(path, tmp_path):
    copy = write_split(tmp_path)
    (copy / "slow.onnx").unlink()
    OnnxInstructionCheck(open_policy(copy)).check_instruction(TEXT)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "got nothing"),
        ({"latent": np.zeros((1, 2, 4), np.float32)}, r"must be float32 \(1, 1, 4\), got float32"),
        ({"latent": np.zeros((1, 1, 4))}, "got float64"),
    ],
)
def test_latent_of_another_policy_is_refused(fast, tensors, message):
    other = dataclasses.replace(latent(), tensors=tensors)
    with pytest.raises(PolicyError, match=message):
        fast.decode(other, observation(), NOW)


def test_read_only_latent_in_shared_memory_is_used_as_it_lies(fast):
    value = np.frombuffer(bytes(64 + 16), dtype=np.float32, count=4, offset=64).reshape(1, 1, 4)
    assert not value.flags.writeable
    fast.decode(dataclasses.replace(latent(), tensors={"latent": value}), observation(), NOW)


def test_latent_may_have_another_name_in_the_fast_graph(tmp_path):
    from onnx_samples import fast_model

    made = fast_model()
    made.graph.input[0].name = "features"
    made.graph.node[1].input[0] = "features"
    data = description()["graphs"]["fast"]["inputs"]
    data["features"] = data.pop("latent") | {"source": "latent"}
    path = write_split(tmp_path, fast=made, graphs__fast__inputs=data)
    policy = OnnxFastPolicy(open_policy(path), QUIET)
    assert policy.decode(latent(1.0), observation(), NOW).positions[0, 2] > 0.31


def test_time_of_a_call_includes_what_happens_around_the_graph(path):
    ticks = iter(range(0, 10**9, 1_000_000))
    runtime = dataclasses.replace(QUIET, now_ns=lambda: next(ticks))
    policy = OnnxFastPolicy(open_policy(path), runtime)
    assert policy.last_timing is None
    policy.decode(latent(), observation(), NOW)
    timing = policy.last_timing
    assert (timing.pre_ns, timing.queue_ns, timing.compute_ns, timing.post_ns) == (
        2 * 10**6,
        10**6,
        10**6,
        3 * 10**6,
    )


def test_names_and_paths_lead_to_the_same_policy(path, monkeypatch):
    for name in (f"onnx:{path}", f"onnx:{path}/manifest.yaml", str(path / "manifest.yaml")):
        assert resolve_policy_name(name) == f"onnx:{path.resolve()}"
        assert make_slow_policy(name, QUIET).name == "tiny"
        assert make_fast_policy(name, QUIET).chunk_rows == H
    monkeypatch.chdir(path.parent)
    assert resolve_policy_name(f"onnx:{path.name}") == f"onnx:{path.resolve()}"
    assert resolve_policy_name("classical") == "classical"


@pytest.mark.parametrize("make", [make_slow_policy, make_fast_policy, make_instruction_check])
def test_name_of_nothing_is_refused(make, tmp_path):
    with pytest.raises(ConfigError, match="must be one of pick-place, classical, onnx:<folder"):
        make("magic")
    with pytest.raises(ConfigError, match="there is no policy folder"):
        make(f"onnx:{tmp_path}/nowhere")
