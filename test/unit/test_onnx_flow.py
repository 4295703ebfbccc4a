# SPDX-License-Identifier: Apache-2.0
"""An exported flow policy under the strategies that need one: prefixes are kept, by all of them."""

from __future__ import annotations

import copy

import flow_loop
import numpy as np
import pytest
from onnx_flow_samples import FLOW_SCALE_M, PREFIX_MAX, K, flow_description, write_flow
from onnx_samples import BASE_ROWS, MS, NOW, H, frame, observation

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix
from vla_ros.chunking.strategies.registry import negotiate
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.write import write_manifest
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.inspection import inspect_policy
from vla_ros.policies.onnx.session import PolicyRuntime

QUIET = PolicyRuntime(report=lambda text: None)
FLOW_STRATEGIES = ("rtc_identity", "rtc_vjp", "rtc_trained", "consensus")
DELAY_MS = 150.0  # three rows


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_flow(tmp_path_factory.mktemp("flowing"))


@pytest.fixture
def policy(path):
    return OnnxChunkPolicy(open_policy(path), QUIET)


def seen(value=51):
    return observation(frames=(frame("scene", value),))


def asked(policy, guidance, *, shift_m=0.03, frozen=3, weights=None, seq=1, value=51):
    view = seen(value)
    columns = BASE_ROWS[0].astype(float)
    columns[:, 2] += shift_m
    rows = policy.manifest.actions.to_rows(columns, view.state, target0_ns=NOW)
    weights = np.ones(H) if weights is None else weights
    return InferenceRequest(
        observation=view,
        target0_ns=NOW,
        dt_ns=rows.dt_ns,
        seq=seq,
        prefix=Prefix(rows=rows, frozen_len=frozen, weights=weights),
        guidance=guidance,
    )


def heights(chunk):
    return chunk.positions[:, 2] - 0.3


def test_every_strategy_for_flow_policies_is_served_as_asked_for(policy):
    for name in FLOW_STRATEGIES:
        assert negotiate(policy.capabilities, name)[0] == name


def test_candidates_come_of_noise_of_their_own_and_again_after_a_reset(policy):
    request = InferenceRequest(observation=seen(), target0_ns=NOW, dt_ns=50 * MS)
    chunks = policy.infer(request)
    assert len(chunks) == K
    assert len({chunk.positions.tobytes() for chunk in chunks}) == K
    apart = np.std([heights(chunk) for chunk in chunks])
    assert 0.3 * FLOW_SCALE_M < apart < 3.0 * FLOW_SCALE_M
    policy.reset()
    for one, other in zip(policy.infer(request), chunks, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_rows_of_a_trained_prefix_are_those_of_the_plan(policy):
    (chunk,) = policy.infer(asked(policy, Guidance.TRAINED))
    np.testing.assert_allclose(heights(chunk)[:3], 0.03, atol=1e-7)
    assert np.abs(heights(chunk)[3:] - 0.03).min() > 1e-4


@pytest.mark.parametrize("guidance", [Guidance.IDENTITY, Guidance.VJP])
def test_guided_rows_are_nearer_to_the_plan_than_free_ones(policy, guidance):
    def away(kind, weights):
        found = [policy.infer(asked(policy, kind, seq=i, weights=weights))[0] for i in range(30)]
        return np.abs(np.array([heights(c) for c in found]) - 0.03).mean()

    assert away(guidance, np.ones(H)) < 0.4 * away(guidance, np.zeros(H))


def test_vjp_pulls_by_the_jacobian_where_identity_pulls_as_it_is(policy):
    one = policy.infer(asked(policy, Guidance.IDENTITY))[0]
    other = policy.infer(asked(policy, Guidance.VJP))[0]
    assert not np.allclose(one.positions, other.positions, atol=1e-5)


def test_guided_rows_say_that_the_task_is_done(policy):
    assert policy.infer(asked(policy, Guidance.IDENTITY, value=255))[0].done
    assert not policy.infer(asked(policy, Guidance.IDENTITY, value=51))[0].done


def test_prefix_longer_than_trained_for_is_refused(policy):
    with pytest.raises(PolicyError, match=f"up to {PREFIX_MAX} rows, got {PREFIX_MAX + 1}"):
        policy.infer(asked(policy, Guidance.TRAINED, frozen=PREFIX_MAX + 1))


@pytest.mark.parametrize(
    ("strategy", "largest_m"),
    # By how much frozen rows may differ: not at all; what guidance with ten steps leaves over.
    [("rtc_trained", 1e-7), ("rtc_identity", 0.2 * FLOW_SCALE_M), ("rtc_vjp", 1.0 * FLOW_SCALE_M)],
)
def test_frozen_rows_are_kept_when_chunks_come_late(policy, strategy, largest_m):
    run = flow_loop.run(policy, strategy, seen(), latency_ms=DELAY_MS)
    largest, n = run.kept.kept_share()
    assert n >= 5
    assert largest <= largest_m
    assert run.execution.counts.failed == 0


def test_seams_are_smaller_with_a_prefix_than_without(policy):
    def seam(strategy):
        return np.mean(flow_loop.run(policy, strategy, seen(), latency_ms=DELAY_MS).seams_m)

    free = seam("naive")
    assert free > 0.5 * FLOW_SCALE_M
    # The first row that is not frozen is compared, too: it is due when the chunk arrives.
    assert seam("rtc_trained") < 0.5 * free
    assert seam("rtc_identity") < 0.5 * free
    assert seam("rtc_vjp") < 0.9 * free


def test_consensus_compares_the_candidates_of_a_call(policy):
    run = flow_loop.run(policy, "consensus", seen(), latency_ms=50.0)
    assert all(len(chunks) == K for _, chunks in run.kept.answers)
    # Candidates differ by centimetres from the first row on: as few rows as allowed are executed.
    assert len(run.kept.answers) > 60 / H


def test_export_passes_the_check(path):
    found = [f.what for f in inspect_policy(open_policy(path), QUIET, "go")]
    assert "guided rows" in found


@pytest.mark.parametrize(
    ("path_to", "value", "message"),
    [
        (("graphs", "velocity", "inputs", "seen", "source"), "other", "is no output of chunk"),
        (("graphs", "velocity", "inputs", "seen", "shape"), [1, H, 3], "chunk makes it float32"),
        (("graphs", "chunk", "inputs", "noise", "shape"), [1, K + 1, H, 10], "noise must be"),
        (
            ("graphs", "velocity", "inputs", "age"),
            {"role": "latent_age_s", "dtype": "float32", "shape": [1, 1]},
            "no latent age in one piece",
        ),
    ],
)
def test_what_velocity_stands_on_must_be_what_chunk_makes(tmp_path, path_to, value, message):
    folder = write_flow(tmp_path)
    data = copy.deepcopy(flow_description())
    *parents, key = path_to
    at = data
    for parent in parents:
        at = at[parent]
    at[key] = value
    with pytest.raises(ConfigError, match=message):
        write_manifest(folder, data)
