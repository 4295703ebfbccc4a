# SPDX-License-Identifier: Apache-2.0
"""Strategies on a policy that may pass an obstacle on either side: who stays on the side begun."""

from __future__ import annotations

import numpy as np
import pytest
from strategy_samples import DT_NS, Loop, capabilities, executed_pose

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.types import ActionChunk

H = 16
SPACE = ModelSpace(position_m=0.1)  # the two sides at +1 and -1
SIDE_M = 0.1


def both_sides(request: InferenceRequest) -> Modes:
    """Forward at 0.1 m/s, 0.1 m to the left or to the right; absolute, whatever the state."""
    t = 1e-9 * (request.target0_ns + DT_NS * np.arange(H))
    means = []
    for side in (1.0, -1.0):
        positions = np.stack([0.1 * t, np.full(H, side * SIDE_M), np.zeros(H)], axis=1)
        rows = ActionChunk(
            target0_ns=request.target0_ns,
            dt_ns=DT_NS,
            positions=positions,
            quats_xyzw=np.tile([0.0, 0.0, 0.0, 1.0], (H, 1)),
            gripper_width_m=np.full(H, 0.04),
        )
        means.append(SPACE.to_model(rows, request.observation.state.T_base_ee))
    return Modes(np.array([0.5, 0.5]), np.array(means))


def path(name: str, delay: int, seed: int = 0) -> np.ndarray:
    """Executed positions (n, 3), one per step, of a strategy whose inference takes ``delay``."""
    able = capabilities(
        horizon=H, is_guided=True, has_vjp=True, trained_prefix_max=8, n_candidates=1
    )
    policy = FlowMixturePolicy(
        both_sides, able, space=SPACE, spread=Spread(first=0.05, last=0.1), seed=seed
    )
    loop = Loop(
        make_strategy(name, able),
        policy.infer,
        delay_steps=lambda k: delay,
        delay_estimate_ns=delay * DT_NS,
    )
    loop.run(120)
    return executed_pose(loop.plans)


def changes_of_side(positions: np.ndarray) -> int:
    return int((np.diff(np.sign(positions[:, 1])) != 0).sum())


def largest_step(positions: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).max())


@pytest.mark.parametrize("name", ["naive", "weighted_average", "state_projection"])
def test_strategies_without_a_tie_change_sides(name: str) -> None:
    positions = path(name, delay=4)
    assert changes_of_side(positions) >= 3


@pytest.mark.parametrize("name", ["rtc_identity", "rtc_vjp", "rtc_trained", "timed"])
def test_strategies_with_a_tie_stay_on_the_side_begun(name: str) -> None:
    for delay in (1, 4, 7):
        positions = path(name, delay)
        assert changes_of_side(positions) == 0
        assert len(positions) > 100


def test_timed_moves_as_evenly_as_its_chunks() -> None:
    for delay in (1, 4, 7):
        assert largest_step(path("timed", delay)) < 3.0 * 0.1 * 1e-9 * DT_NS
    assert largest_step(path("naive", 4)) > SIDE_M
