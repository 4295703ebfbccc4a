# SPDX-License-Identifier: Apache-2.0
"""Residual and steering through executor and C++ control host, on the simulated arm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("mujoco")

from hooked_arm import BIAS_M, DT_NS, MS, ROWS, ArmWorld, BiasedPlanner, arm_at_home
from host_rig import HostRig

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.policies.flow_mixture import N_COLUMNS, FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.costs import PostCost, SpeedCost
from vla_ros.policies.hooks.fast_policy import FlowExpert, HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.limiter import CommandLimiter, LimiterConfig
from vla_ros.policies.hooks.residual import BoundedResidual, ResidualConfig
from vla_ros.policies.hooks.steering import SteeringConfig
from vla_ros.policies.hooks.terms import HookedRows, moved

pytestmark = pytest.mark.sim

TOLERANCE_M = 0.01
EPISODES, STEPS = 6, 120
BOUND = ResidualConfig(bound_m=0.02, hold_s=0.02, decay_s=0.1)
TOUCH_M = 0.03


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Iterator[HostRig]:
    with arm_at_home(tmp_path_factory.mktemp("scene")) as rig:
        yield rig


def place(rig: HostRig) -> np.ndarray:
    """Put the arm home; return where its hand is."""
    rig.plant.request_reset(rig.home)
    rig.now_ns = rig.host.run_ticks(
        rig.now_ns, 1200
    )  # rows of before expire, the arm comes to rest
    return np.array(rig.host.state()["position"])


class Biased:
    """An episode with a residual that knows the systematic part of the bias, with some noise."""

    def __init__(self, rig: HostRig, seed: int, gain: float) -> None:
        self.random, self.gain = np.random.default_rng([seed, 17]), gain
        start = place(rig)
        self.goal = start + self.random.uniform([0.02, -0.08, -0.08], [0.12, 0.08, 0.02])
        bias = BIAS_M + 0.002 * self.random.standard_normal(3)
        self.log: list[HookedRows] = []
        self.residual = BoundedResidual(BOUND)
        chain = HookChain(self.residual, CommandLimiter(LimiterConfig()), self.log.append)
        policy = HookedFastPolicy(PlainExpert(BiasedPlanner(self.goal, bias)), chain)
        self.world = ArmWorld(rig, policy)
        self.is_source_alive = True

    def run(self, steps: int) -> Biased:
        for _ in range(steps):
            if self.gain and self.is_source_alive:
                value = np.zeros(6)
                value[:3] = -self.gain * BIAS_M + 0.001 * self.random.standard_normal(3)
                now_ns = self.world.rig.now_ns
                self.residual.offer(value, now_ns, now_ns)
            self.world.step()
        return self

    @property
    def error_m(self) -> float:
        return float(np.linalg.norm(self.world.position - self.goal))


@pytest.fixture(scope="module")
def episodes(rig: HostRig) -> dict[float, list[Biased]]:
    found: dict[float, list[Biased]] = {}
    for gain in (0.0, 1.0, -1.0):
        found[gain] = []
        for seed in range(EPISODES):
            episode = Biased(rig, seed, gain).run(STEPS)
            episode.reached_m = episode.error_m
            found[gain].append(episode)
    return found


def success(episodes: list[Biased]) -> float:
    return float(np.mean([e.reached_m < TOLERANCE_M for e in episodes]))


def test_a_residual_mends_the_bias_of_the_arm(episodes: dict[float, list[Biased]]) -> None:
    assert success(episodes[1.0]) >= success(episodes[0.0]) + 0.3
    errors = {gain: np.mean([e.reached_m for e in found]) for gain, found in episodes.items()}
    assert errors[-1.0] > errors[0.0] > errors[1.0]  # of the wrong sign it makes things worse


def test_the_residual_is_within_its_bound_whatever_its_sign(
    episodes: dict[float, list[Biased]],
) -> None:
    for found in episodes.values():
        residuals = np.array([rows.residual[0] for e in found for rows in e.log])
        assert np.linalg.norm(residuals[:, :3], axis=1).max() <= BOUND.bound_m * (1 + 1e-12)


def test_what_is_logged_sums_to_what_the_policy_said(episodes: dict[float, list[Biased]]) -> None:
    for episode in episodes[1.0]:
        for rows in episode.log:
            again = moved(rows.base, rows.steering + rows.residual + rows.limit)
            assert np.array_equal(again.positions, rows.command.positions)
            assert np.array_equal(again.quats_xyzw, rows.command.quats_xyzw)


def test_every_step_of_a_hooked_policy_is_committed(episodes: dict[float, list[Biased]]) -> None:
    for episode in episodes[1.0]:
        assert all(result.segment is not None for result in episode.world.results)


def test_when_the_source_is_killed_the_base_goes_on_and_nothing_jumps(rig: HostRig) -> None:
    episode = Biased(rig, 3, 1.0).run(60)
    applied = np.linalg.norm(episode.residual.applied[:3])
    assert applied > 0.01
    episode.is_source_alive = False
    before = len(episode.log)
    episode.run(100)
    assert all(r.segment is not None for r in episode.world.results)  # not a period without rows
    terms = np.array([rows.residual[0, :3] for rows in episode.log[before - 1 :]])
    assert np.linalg.norm(np.diff(terms, axis=0), axis=1).max() <= 1e-3 + 1e-12
    assert np.linalg.norm(terms[-1]) < 0.05 * applied
    asked = np.array([s.T_base_ref[:3, 3] for s in episode.world.states[before - 1 :]])
    # The arm is at its goal: what is left to move it is the residual that fades.
    assert np.linalg.norm(np.diff(asked, axis=0), axis=1).max() <= 1e-3


def flow_to(goal: np.ndarray, seed: int) -> FlowMixturePolicy:
    """Goes straight to a goal at 0.25 m/s and scatters about the way."""
    space = ModelSpace(position_m=0.05)

    def modes(request: InferenceRequest) -> Modes:
        T = request.observation.state.T_base_ee
        way = T[:3, :3].T @ (goal - T[:3, 3])
        length = max(float(np.linalg.norm(way)), 1e-9)
        along = np.minimum(0.25 * 1e-9 * DT_NS * np.arange(ROWS), length)
        means = np.zeros((1, ROWS, N_COLUMNS))
        means[0, :, :3] = np.outer(along, way / length) / space.position_m
        return Modes(np.ones(1), means)

    return FlowMixturePolicy(
        modes,
        PolicyCapabilities(horizon=ROWS, dt_ns=DT_NS, is_guided=True, has_split_latent=True),
        spread=Spread(first=0.01, last=0.1, correlation=0.97),
        space=space,
        seed=seed,
    )


def world_of(rig: HostRig, flow: FlowMixturePolicy, costs: list) -> ArmWorld:
    expert = FlowExpert(
        lambda latent: flow,
        costs,
        chunk_rows=ROWS,
        chunk_dt_ns=DT_NS,
        config=SteeringConfig(),
        capabilities=flow.capabilities,
    )
    chain = HookChain(limiter=CommandLimiter(LimiterConfig(deviation_m=0.2)))
    return ArmWorld(rig, HookedFastPolicy(expert, chain), period_ns=30 * MS)


def test_a_post_of_test_time_is_hit_a_third_as_often_or_less(rig: HostRig) -> None:
    hits: dict[bool, list[bool]] = {False: [], True: []}
    arrived = []
    for seed in range(5):
        for is_steered in hits:
            start = place(rig)
            goal = start + np.array([0.2, 0.0, 0.0])
            post = start[:2] + np.array([0.1, 0.0])
            post[1] += np.random.default_rng([seed, 4]).uniform(-0.015, 0.015)
            flow = flow_to(goal, seed)
            before = hashlib.sha256(flow._covariance.tobytes()).hexdigest()
            cost = PostCost(x_m=float(post[0]), y_m=float(post[1]), clearance_m=0.05)
            world = world_of(rig, flow, [cost] if is_steered else []).run(60)
            nearest = np.linalg.norm(world.positions[:, :2] - post, axis=1).min()
            hits[is_steered].append(bool(nearest < TOUCH_M))
            if is_steered:
                arrived.append(float(np.linalg.norm(world.position - goal)))
            assert hashlib.sha256(flow._covariance.tobytes()).hexdigest() == before
    assert np.mean(hits[False]) > 0.7
    assert np.mean(hits[True]) <= np.mean(hits[False]) / 3
    assert np.median(arrived) < 0.05  # past the post, not away from it


def test_the_speed_of_the_arm_follows_the_coefficient(rig: HostRig) -> None:
    coefficients = np.linspace(-2.0, 2.0, 7)
    speeds = []
    for c in coefficients:
        start = place(rig)
        flow = flow_to(start + np.array([0.25, 0.0, 0.0]), 1)
        world = world_of(rig, flow, [SpeedCost(coefficient=float(c))]).run(16)
        steps = np.linalg.norm(np.diff(world.positions, axis=0), axis=1)
        speeds.append(steps.sum() / (len(steps) * 1e-9 * world.period_ns))
    ranks = np.argsort(np.argsort(speeds))
    assert np.corrcoef(ranks, np.arange(len(coefficients)))[0, 1] >= 0.9
    assert speeds[-1] > 1.1 * speeds[0]
