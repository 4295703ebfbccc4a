# SPDX-License-Identifier: Apache-2.0
"""What an export may offer beyond rows: candidates, energies, prefixes, its denoising steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx_flow_samples import ENERGIES, SHIFTS_M, STEPS, K, chunk_description, write_chunk
from onnx_samples import BASE_ROWS, DT_NS, MS, NOW, A, H, frame, observation, write_split

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.write import write_manifest
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import make_fast_policy, make_slow_policy
from vla_ros.types import Latent

QUIET = PolicyRuntime(report=lambda text: None)
GREY, WHITE = (frame("scene", 51),), (frame("scene", 255),)
TARGET0 = NOW + 20 * MS


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_chunk(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def policy(path) -> OnnxChunkPolicy:
    return OnnxChunkPolicy(open_policy(path), QUIET)


def request(policy, guidance=Guidance.NONE, frozen=0, weights=None, shift_m=0.05, frames=GREY):
    """A request tied to rows that lie ``shift_m`` above those the policy would give."""
    seen = observation(frames=frames)
    prefix = None
    if guidance is not Guidance.NONE:
        columns = BASE_ROWS[0].astype(float)
        columns[:, 2] += shift_m
        rows = policy.manifest.actions.to_rows(columns, seen.state, target0_ns=TARGET0)
        weights = np.zeros(H) if weights is None else weights
        prefix = Prefix(rows=rows, frozen_len=frozen, weights=weights)
    return InferenceRequest(
        observation=seen,
        target0_ns=TARGET0,
        dt_ns=DT_NS,
        seq=1,
        prefix=prefix,
        guidance=guidance,
    )


def heights(chunk):
    return chunk.positions[:, 2] - 0.3


def test_candidates_come_in_the_order_of_their_energies(policy):
    chunks = policy.infer(request(policy))
    order = np.argsort(ENERGIES[0])
    sideways = [chunk.positions[0, 1] - 0.1 for chunk in chunks]
    np.testing.assert_allclose(sideways, SHIFTS_M[order], atol=1e-6)
    assert policy.last_rows.scores == pytest.approx(-np.sort(ENERGIES[0]))
    assert policy.capabilities.n_candidates == K
    assert policy.capabilities.has_scores
    assert {chunk.target0_ns for chunk in chunks} == {TARGET0}


def test_policy_says_how_certain_it_is_and_when_it_is_done(policy):
    (chunk, *_) = policy.infer(request(policy, frames=GREY))
    assert policy.last_rows.uncertainty == pytest.approx(0.8)
    assert (chunk.done, chunk.phase) == (False, "acting")
    (chunk, *_) = policy.infer(request(policy, frames=WHITE))
    assert policy.last_rows.uncertainty == pytest.approx(0.0)
    assert (chunk.done, chunk.phase) == (True, "done")


def test_trained_prefix_is_continued(policy):
    best, *_ = policy.infer(request(policy, Guidance.TRAINED, frozen=3))
    np.testing.assert_allclose(heights(best), [0.05] * 3 + [0.0] * (H - 3), atol=1e-6)
    assert best.target0_ns == TARGET0


def test_prefix_longer_than_trained_for_is_refused(policy):
    with pytest.raises(PolicyError, match="prefixes of up to 4 rows, got 5"):
        policy.infer(request(policy, Guidance.TRAINED, frozen=5))


@pytest.mark.parametrize("guidance", [Guidance.IDENTITY, Guidance.VJP])
def test_denoising_without_weights_ends_at_the_rows_of_the_policy(policy, guidance):
    (chunk,) = policy.infer(request(policy, guidance))
    np.testing.assert_allclose(heights(chunk), 0.0, atol=1e-5)
    np.testing.assert_allclose(chunk.positions[:, 0], 0.4 + BASE_ROWS[0, :, 0], atol=1e-5)
    assert chunk.target0_ns == TARGET0


def test_guided_rows_are_drawn_to_the_prefix_where_it_binds(policy):
    weights = np.linspace(1.0, 0.0, H)
    (chunk,) = policy.infer(request(policy, Guidance.IDENTITY, weights=weights))
    found = heights(chunk)
    assert 0.02 < found[0] <= 0.05 + 1e-6
    assert abs(found[-1]) < 1e-5
    assert np.all(np.diff(found) <= 1e-6)


def test_denoiser_takes_one_run_per_step(path):
    ticks = iter(range(0, 10**10, 1_000_000))
    runtime = dataclasses.replace(QUIET, now_ns=lambda: next(ticks))
    policy = OnnxChunkPolicy(open_policy(path), runtime)
    policy.infer(request(policy, Guidance.IDENTITY))
    assert policy.last_timing.compute_ns == STEPS * 10**6


def test_policy_without_denoising_cannot_be_guided(tmp_path):
    fast = OnnxFastPolicy(open_policy(write_split(tmp_path)), QUIET)
    from onnx_samples import latent

    asked = request(fast, Guidance.IDENTITY)
    with pytest.raises(PolicyError, match="tiny cannot be guided"):
        fast.decode_request(latent(), asked, NOW)


@pytest.mark.parametrize(
    ("path_to", "value", "message"),
    [
        (("abilities", "candidates"), 2, rf"must be float32 \[1, 2, {H}, {A}\]"),
        (("abilities", "ranking"), "scores", "ranking is scores, the tensors say energy"),
        (("abilities", "uncertainty"), False, "uncertainty is False"),
        (("abilities", "vjp"), False, "vjp is False"),
        (("abilities", "prefix_rows_max"), 0, "prefix_rows_max is 0, but there is an input"),
        (("abilities", "prefix_rows_max"), H, "must be below actions.rows"),
        (("model_space",), None, "needs model_space"),
        (("model_space", "scale"), [0.5] * (A - 1), f"needs {A} values"),
        (("model_space", "scale"), [0.0] * A, "scale must be > 0"),
        (("actions", "first_row_s"), 0.05, "first_row_s must be 0"),
    ],
)
def test_abilities_that_contradict_the_graphs_are_refused(tmp_path, path_to, value, message):
    folder = write_chunk(tmp_path)
    data = chunk_description()
    *parents, key = path_to
    at = data
    for parent in parents:
        at = at[parent]
    at[key] = value
    with pytest.raises(ConfigError, match=message):
        write_manifest(folder, data)


def test_policy_in_one_piece_runs_through_the_latent_buffer(path):
    slow, fast = make_slow_policy(f"onnx:{path}", QUIET), make_fast_policy(f"onnx:{path}", QUIET)
    tensors = slow.encode(observation(frames=GREY))
    stamp = LatencyStamp(kind=StampKind.LATENT, hard_expire_ns=NOW + 10**9)
    seen = Latent(tensors=tensors, stamp=stamp)
    for later_ms in (0, 100, 300):
        chunk = fast.decode(seen, observation(frames=()), NOW + later_ms * MS)
        assert chunk.target0_ns == NOW
        np.testing.assert_allclose(chunk.positions[:, 1], 0.2, atol=1e-6)
    with pytest.raises(PolicyError, match="the last row was due 50 ms ago"):
        fast.decode(seen, observation(), NOW + (H - 1) * DT_NS + 50 * MS)
    assert (slow.latent_schema_hash, slow.model_hash) == (fast.latent_schema_hash, fast.model_hash)
    with pytest.raises(PolicyError, match="the latent holds no rows"):
        fast.decode(dataclasses.replace(seen, tensors={}), observation(), NOW)


def test_kinds_are_not_mixed_up(path, tmp_path):
    with pytest.raises(ConfigError, match="whole is a policy in one piece"):
        OnnxFastPolicy(open_policy(path), QUIET)
    with pytest.raises(ConfigError, match="tiny is a split policy"):
        OnnxChunkPolicy(open_policy(write_split(tmp_path)), QUIET)
