# SPDX-License-Identifier: Apache-2.0
"""Costs that steer a frozen flow policy: past a post it never knew of, faster and slower."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_samples import DT_NS, IDENTITY_QUAT, capabilities, make_chunk, make_observation

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix, PrefixPolicy
from vla_ros.chunking.strategies.denoising import guided_denoise, prefix_weights
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.costs import PostCost, SpeedCost
from vla_ros.policies.hooks.fast_policy import FlowExpert, HookedFastPolicy
from vla_ros.policies.hooks.limiter import CommandLimiter, LimiterConfig
from vla_ros.policies.hooks.steering import SteeredFlow, SteeringConfig, SteeringCost
from vla_ros.policies.hooks.terms import HookedRows
from vla_ros.report.statistics import mcnemar_p
from vla_ros.types import ActionChunk, Latent

H = 12
N = 150
LATENT = Latent(tensors={}, stamp=LatencyStamp(kind=StampKind.LATENT))
SPACE = ModelSpace(position_m=0.05)
MEANS = np.zeros((1, H, 7))
MEANS[0, :, 0] = np.linspace(0.0, 0.3, H) / SPACE.position_m  # straight on, 30 cm
POST_X_M, TOUCH_M = 0.15, 0.03


def make_policy(seed: int = 0, means: np.ndarray = MEANS) -> FlowMixturePolicy:
    """Scatters by 2 cm about the straight way at its middle."""
    return FlowMixturePolicy(
        lambda request: Modes(np.ones(len(means)), means),
        capabilities(horizon=H, trained_prefix_max=6),
        spread=Spread(first=0.02, last=0.8, correlation=0.97),
        space=SPACE,
        seed=seed,
    )


def weights_of(policy: FlowMixturePolicy) -> str:
    """Hash of all that the policy knows."""
    return hashlib.sha256(policy._covariance.tobytes() + MEANS.tobytes()).hexdigest()


def request_of(seq: int = 1) -> InferenceRequest:
    return InferenceRequest(observation=make_observation(), target0_ns=0, dt_ns=DT_NS, seq=seq)


def touches(chunk: ActionChunk, x_m: float, y_m: float) -> bool:
    """Whether the way through the rows comes within 3 cm of the post, between rows too."""
    fine = np.linspace(0, chunk.horizon - 1, 200)
    x, y = (np.interp(fine, np.arange(chunk.horizon), chunk.positions[:, k]) for k in (0, 1))
    return bool(np.hypot(x - x_m, y - y_m).min() < TOUCH_M)


def test_a_post_of_test_time_is_touched_a_third_as_often_or_less() -> None:
    policy = make_policy()
    before = weights_of(policy)
    frozen, steered, progress_m = [], [], []
    for seq in range(N):
        y_m = float(np.random.default_rng([seq, 1]).uniform(-0.01, 0.01))
        cost = PostCost(x_m=POST_X_M, y_m=y_m, clearance_m=0.045)
        free = guided_denoise(policy, request_of(seq))
        rows = guided_denoise(SteeredFlow(policy, [cost]), request_of(seq))
        frozen.append(touches(free, POST_X_M, y_m))
        steered.append(touches(rows, POST_X_M, y_m))
        progress_m.append(rows.positions[-1, 0] - free.positions[-1, 0])
    assert np.mean(frozen) > 0.5
    assert np.mean(steered) <= np.mean(frozen) / 3
    assert mcnemar_p(steered, frozen) < 1e-6
    assert np.abs(progress_m).max() < 0.05  # past the post, not away from it
    assert weights_of(policy) == before


def test_steering_the_wrong_way_touches_more() -> None:
    """The control: the cost with its sign flipped."""

    class Attracted(PostCost):
        def descent(self, rows: ActionChunk, request: InferenceRequest) -> np.ndarray:
            away = rows.positions[:, :2] - np.array([self.x_m, self.y_m])
            near = np.linalg.norm(away, axis=1, keepdims=True) < 0.08
            return np.hstack([-0.5 * away * near, np.zeros((len(away), 1))])

    policy = make_policy()
    cost = Attracted(x_m=POST_X_M, y_m=0.02, clearance_m=0.045)
    found = {
        name: np.mean(
            [touches(guided_denoise(p, request_of(k)), POST_X_M, 0.02) for k in range(60)]
        )
        for name, p in (("frozen", policy), ("steered", SteeredFlow(policy, [cost])))
    }
    assert found["steered"] > found["frozen"]


def test_speed_follows_its_coefficient() -> None:
    policy = make_policy()
    coefficients = np.linspace(-2.0, 2.0, 9)
    speeds = []
    for c in coefficients:
        flow = SteeredFlow(policy, [SpeedCost(coefficient=float(c))])
        chunks = [guided_denoise(flow, request_of(k)) for k in range(15)]
        steps = [np.linalg.norm(np.diff(chunk.positions, axis=0), axis=1) for chunk in chunks]
        speeds.append(float(np.mean(steps)) / (1e-9 * DT_NS))
    ranks = np.argsort(np.argsort(speeds))
    rho = np.corrcoef(ranks, np.arange(len(coefficients)))[0, 1]
    assert rho >= 0.9
    assert speeds[-1] > 1.2 * speeds[4] > 1.2 * 1.2 * speeds[0]


def test_without_costs_or_where_they_are_met_the_rows_are_those_of_the_policy() -> None:
    policy = make_policy()
    far = PostCost(x_m=5.0, y_m=5.0)
    for costs in ([], [far], [SpeedCost(coefficient=0.0)]):
        rows = guided_denoise(SteeredFlow(policy, costs), request_of())
        np.testing.assert_array_equal(
            rows.positions, guided_denoise(policy, request_of()).positions
        )


@given(st.integers(0, 2**31), st.floats(-0.2, 0.2), st.floats(0.02, 0.1))
@settings(max_examples=50, deadline=None)
def test_post_descent_is_minus_the_gradient_of_its_cost(
    seed: int, y_m: float, clearance_m: float
) -> None:
    """Of the cost across the way; the way and its side count as given."""
    rng = np.random.default_rng(seed)
    cost = PostCost(x_m=0.15, y_m=y_m, clearance_m=clearance_m)
    positions = np.zeros((H, 3))
    positions[:, 0] = np.linspace(0.0, 0.3, H)
    positions[1:-1, 1] = rng.normal(0.0, 0.03, H - 2)
    rows = replace(make_chunk(0, np.zeros(H)), positions=positions)
    descent = cost.descent(rows, request_of())
    a, s = positions[:, 0] - 0.15, positions[:, 1] - y_m
    beside = np.abs(a) < clearance_m
    side = 1.0 if s[beside].sum() >= 0 else -1.0

    def value(across: np.ndarray) -> float:
        chord = np.sqrt(np.maximum(clearance_m**2 - a**2, 0.0))
        return float(0.5 * (np.maximum(chord - side * across, 0.0)[beside] ** 2).sum())

    for i in range(H):
        e = np.zeros(H)
        e[i] = 1e-6
        numeric = -(value(s + e) - value(s - e)) / 2e-6
        assert descent[i, 1] == pytest.approx(numeric, abs=1e-6)
    assert not descent[:, [0, 2]].any()


def test_rows_through_the_post_all_go_past_on_one_side() -> None:
    rows = replace(make_chunk(0, np.linspace(0.0, 0.3, H)))  # exactly through it
    steps = PostCost(x_m=0.15, y_m=0.0, clearance_m=0.05).descent(rows, request_of())
    there = replace(rows, positions=rows.positions + steps)
    assert touches(rows, 0.15, 0.0)
    assert not touches(there, 0.15, 0.0)
    still = replace(make_chunk(0, np.full(H, 0.15)))
    assert np.isfinite(PostCost(x_m=0.15, y_m=0.0).descent(still, request_of())).all()


@pytest.mark.parametrize("answer", ["error", "nan", "shape"])
def test_a_cost_that_fails_is_left_out_and_counted(answer: str) -> None:
    class Broken:
        name = "broken"

        def descent(self, rows: ActionChunk, request: InferenceRequest) -> np.ndarray:
            if answer == "error":
                raise PolicyError("no idea")
            return np.full((H, 3), np.nan) if answer == "nan" else np.zeros(3)

    policy = make_policy()
    post = PostCost(x_m=POST_X_M, y_m=0.0)
    costs: list[SteeringCost] = [Broken(), post]
    flow = SteeredFlow(policy, costs)
    rows = guided_denoise(flow, request_of())
    expected = guided_denoise(SteeredFlow(policy, [post]), request_of())
    np.testing.assert_array_equal(rows.positions, expected.positions)
    assert flow.ignored == policy.n_denoising_steps


def test_a_step_is_no_longer_than_allowed() -> None:
    class Wild:
        name = "wild"

        def descent(self, rows: ActionChunk, request: InferenceRequest) -> np.ndarray:
            return np.tile([0.0, 1e3, 0.0], (rows.horizon, 1))

    policy = make_policy()
    x = policy.noise(request_of())
    flow = SteeredFlow(policy, [Wild()], SteeringConfig(step_m=0.01, largest_weight=5.0))
    pushed = flow.velocity(x, 0.0, request_of()) - policy.velocity(x, 0.0, request_of())
    assert np.linalg.norm(pushed[:, :3], axis=1).max() * SPACE.position_m <= 5.0 * 0.01 + 1e-9


def test_a_prefix_stays_while_the_rest_is_steered() -> None:
    policy = make_policy()
    flow = SteeredFlow(policy, [PostCost(x_m=POST_X_M, y_m=0.0, clearance_m=0.045)])
    assert isinstance(flow, PrefixPolicy)
    first = guided_denoise(policy, request_of(1))
    prefix = Prefix(rows=first, frozen_len=4, weights=prefix_weights("exp", 4, 8, H))
    request = replace(request_of(2), prefix=prefix, guidance=Guidance.TRAINED)
    rows, free = guided_denoise(flow, request), guided_denoise(policy, request)
    np.testing.assert_allclose(rows.positions[:4], first.positions[:4], atol=1e-12)
    assert np.abs(rows.positions[4:] - free.positions[4:]).max() > 1e-3


class Bare:
    """A flow policy that was not trained to continue a prefix."""

    def __init__(self, policy: FlowMixturePolicy) -> None:
        self.n_denoising_steps = policy.n_denoising_steps
        self.to_model, self.from_model, self.noise = (
            policy.to_model,
            policy.from_model,
            policy.noise,
        )
        self.velocity, self.velocity_vjp = policy.velocity, policy.velocity_vjp


def test_a_policy_that_was_not_trained_for_prefixes_is_not_made_one() -> None:
    flow = SteeredFlow(Bare(make_policy()), [])
    with pytest.raises(PolicyError, match="not trained"):
        flow.prefix_velocity(np.zeros((H, 7)), 0.0, 2, request_of())
    v = np.ones((H, 7))
    np.testing.assert_array_equal(
        flow.velocity_vjp(v, 0.5, v, request_of()),
        make_policy().velocity_vjp(v, 0.5, v, request_of()),
    )


def test_steering_is_a_term_of_its_own_and_base_is_the_frozen_policy() -> None:
    log: list[HookedRows] = []
    cost = PostCost(x_m=POST_X_M, y_m=0.0, clearance_m=0.045)
    policy = make_policy()
    expert = FlowExpert(
        lambda latent: policy, [cost], chunk_rows=H, chunk_dt_ns=DT_NS, config=SteeringConfig()
    )
    limits = LimiterConfig(deviation_m=1.0, deviation_rad=3.0, speed_m_s=3.0)
    hooked = HookedFastPolicy(expert, HookChain(None, CommandLimiter(limits), log.append))
    observation = make_observation()
    for seq in range(1, 4):
        command = hooked.decode(LATENT, observation, 0)
        free = guided_denoise(policy, request_of(seq))
        steered = guided_denoise(SteeredFlow(policy, [cost]), request_of(seq))
        rows = log[-1]
        np.testing.assert_array_equal(rows.base.positions, free.positions)
        np.testing.assert_allclose(command.positions, steered.positions, atol=1e-12)
        np.testing.assert_array_equal(
            command.positions,
            free.positions + (rows.steering + rows.residual + rows.limit)[:, :3],
        )
        assert not rows.residual.any()
        assert not rows.limit.any()
    hooked.reset()
    np.testing.assert_array_equal(
        hooked.decode(LATENT, observation, 0).positions, log[0].command.positions
    )


def test_an_expert_without_costs_denoises_once() -> None:
    policy = make_policy()
    expert = FlowExpert(lambda latent: policy, [], chunk_rows=H, chunk_dt_ns=DT_NS)
    base, steered = expert.rows(LATENT, make_observation(), 0)
    assert steered is None
    assert base.quats_xyzw.shape == (H, len(IDENTITY_QUAT))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="clearance_m"):
        PostCost(clearance_m=0.0)
    with pytest.raises(ConfigError, match="coefficient must be -2"):
        SpeedCost(coefficient=2.5)
