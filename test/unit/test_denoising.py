# SPDX-License-Identifier: Apache-2.0
"""Prefix weights, guidance and clean prefixes, on the flow policy in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import DT_NS, able, make_observation, random_chunk

from vla_ros.chunking.strategies.base import (
    GenerativePolicy,
    Guidance,
    InferenceRequest,
    Prefix,
    PrefixPolicy,
)
from vla_ros.chunking.strategies.denoising import (
    SCHEDULES,
    guidance_weight,
    guided_denoise,
    prefix_weights,
)
from vla_ros.errors import PolicyError
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread

H = 8


def two_ways(request: InferenceRequest) -> Modes:
    """Left or right of an obstacle, equally likely."""
    means = np.zeros((2, H, 7))
    means[0, :, 1] = 2.0 * np.sin(np.linspace(0.0, np.pi, H))
    means[:, :, 0] = np.linspace(0.0, 2.0, H)
    means[1, :, 1] = -means[0, :, 1]
    return Modes(np.array([0.5, 0.5]), means)


def make_policy(**changes: object) -> FlowMixturePolicy:
    settings: dict[str, object] = {"spread": Spread(first=0.05, last=0.3), "n_denoising_steps": 10}
    return FlowMixturePolicy(two_ways, able(trained_prefix_max=5), **{**settings, **changes})


def free_request(seq: int = 1) -> InferenceRequest:
    return InferenceRequest(observation=make_observation(), target0_ns=0, dt_ns=DT_NS, seq=seq)


def request_with(
    guidance: Guidance, *, mode: int = 0, frozen: int = 3, largest: float = 5.0, seq: int = 1
) -> InferenceRequest:
    policy = make_policy()
    free = free_request(seq)
    means = two_ways(free).means[mode]
    prefix = Prefix(
        rows=policy.from_model(means, free),
        frozen_len=frozen,
        weights=prefix_weights("exp", frozen, 6, H),
        max_guidance_weight=largest,
    )
    return replace(free, prefix=prefix, guidance=guidance)


def side(rows: np.ndarray) -> float:
    return float(rows[:, 1].sum())


def test_weights_of_the_schedules() -> None:
    c = np.array([3 / 4, 2 / 4, 1 / 4])
    expected = {
        "zeros": [1, 1, 0, 0, 0, 0, 0],
        "ones": [1, 1, 1, 1, 1, 0, 0],
        "linear": [1, 1, *c, 0, 0],
        "exp": [1, 1, *(c * np.expm1(c) / (math.e - 1)), 0, 0],
    }
    for schedule in SCHEDULES:
        np.testing.assert_allclose(prefix_weights(schedule, 2, 5, 7), expected[schedule])


@given(st.sampled_from(SCHEDULES), st.integers(0, 12), st.integers(0, 12), st.integers(1, 12))
def test_weights_fall_from_one_to_zero(schedule: str, start: int, end: int, total: int) -> None:
    weights = prefix_weights(schedule, start, end, total)
    assert weights.shape == (total,)
    assert (np.diff(weights) <= 1e-12).all()
    assert (weights[: min(start, end)] == 1.0).all()
    assert (weights[end:] == 0.0).all()


def test_guidance_weight_is_clipped_where_it_is_infinite() -> None:
    assert guidance_weight(0.0, 5.0) == 5.0
    assert guidance_weight(0.5, 5.0) == pytest.approx(2.0)  # c = 1, 1 / r^2 = 2
    t = 0.3
    r2 = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
    assert guidance_weight(t, 100.0) == pytest.approx((1 - t) / t / r2)
    assert guidance_weight(0.999, 5.0) == 5.0


def test_the_policy_implements_both_protocols() -> None:
    policy: GenerativePolicy = make_policy()
    assert isinstance(policy, PrefixPolicy)


def test_model_space_round_trip() -> None:
    rng = np.random.default_rng(0)
    rows = random_chunk(7, rng)
    policy, request = make_policy(), replace(free_request(), target0_ns=7)
    back = policy.from_model(policy.to_model(rows, request), request)
    np.testing.assert_allclose(back.positions, rows.positions, atol=1e-12)
    np.testing.assert_allclose(
        np.abs((back.quats_xyzw * rows.quats_xyzw).sum(axis=1)), 1.0, atol=1e-12
    )
    np.testing.assert_allclose(back.gripper_width_m, rows.gripper_width_m, atol=1e-12)


def test_free_samples_take_either_way() -> None:
    policy = make_policy()
    sides = [side(guided_denoise(policy, free_request(k)).positions) > 0 for k in range(60)]
    assert 15 < sum(sides) < 45


@pytest.mark.parametrize("guidance", [Guidance.IDENTITY, Guidance.VJP, Guidance.TRAINED])
def test_ties_keep_the_way_that_was_begun(guidance: Guidance) -> None:
    policy = make_policy()
    for mode, sign in ((0, 1.0), (1, -1.0)):
        kept = [
            sign * side(guided_denoise(policy, request_with(guidance, mode=mode, seq=k)).positions)
            for k in range(20)
        ]
        assert sum(s > 0 for s in kept) >= 18


def test_vjp_meets_frozen_rows_better_than_a_free_sample() -> None:
    policy = make_policy()
    errors = {}
    for guidance in (Guidance.NONE, Guidance.IDENTITY, Guidance.VJP):
        found = []
        for k in range(30):
            request = request_with(guidance, seq=k)
            assert request.prefix is not None
            rows = guided_denoise(policy, request)
            found.append(np.abs(rows.positions[:3] - request.prefix.rows.positions[:3]).mean())
        errors[guidance] = np.mean(found)
    assert errors[Guidance.VJP] < 0.5 * errors[Guidance.NONE]
    assert errors[Guidance.IDENTITY] < 0.5 * errors[Guidance.NONE]


def test_identity_is_not_the_true_jacobian() -> None:
    policy = make_policy()
    identity = guided_denoise(policy, request_with(Guidance.IDENTITY))
    vjp = guided_denoise(policy, request_with(Guidance.VJP))
    assert np.abs(identity.positions - vjp.positions).max() > 1e-3


def test_trained_prefix_is_kept_exactly() -> None:
    policy = make_policy()
    for frozen in range(6):
        request = request_with(Guidance.TRAINED, frozen=frozen)
        assert request.prefix is not None
        rows = guided_denoise(policy, request)
        expected = request.prefix.rows.positions[:frozen]
        np.testing.assert_allclose(rows.positions[:frozen], expected, atol=1e-12)


def test_trained_prefix_longer_than_trained_is_refused() -> None:
    with pytest.raises(PolicyError, match="up to 5"):
        guided_denoise(make_policy(), request_with(Guidance.TRAINED, frozen=6))


def test_a_policy_without_prefix_training_is_refused() -> None:
    class Bare:
        n_denoising_steps = 2

        def __init__(self) -> None:
            policy = make_policy()
            self.to_model, self.from_model = policy.to_model, policy.from_model
            self.noise, self.velocity = policy.noise, policy.velocity
            self.velocity_vjp = policy.velocity_vjp

    with pytest.raises(PolicyError, match="not trained"):
        guided_denoise(Bare(), request_with(Guidance.TRAINED))


def test_guidance_without_prefix_samples_freely() -> None:
    policy = make_policy()
    free = guided_denoise(policy, free_request())
    guided = guided_denoise(policy, replace(free_request(), guidance=Guidance.VJP))
    np.testing.assert_array_equal(free.positions, guided.positions)


def test_candidates_differ_and_are_repeatable() -> None:
    policy = make_policy()
    chunks, again = policy.infer(free_request(3)), make_policy().infer(free_request(3))
    assert len(chunks) == 3
    assert np.abs(chunks[0].positions - chunks[1].positions).max() > 1e-3
    for a, b in zip(chunks, again, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)


def test_rows_follow_the_pose_that_the_policy_is_shown() -> None:
    policy = FlowMixturePolicy(two_ways, able(), space=ModelSpace(position_m=0.1))
    here = guided_denoise(policy, free_request())
    moved = replace(free_request(), observation=make_observation(x=0.5))
    there = guided_denoise(policy, moved)
    np.testing.assert_allclose(there.positions - here.positions, [[0.5, 0, 0]] * H, atol=1e-12)
