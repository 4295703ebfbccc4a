# SPDX-License-Identifier: Apache-2.0
"""Two flow policies of which one knows the obstacle and the other the goal, and who judges rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from strategy_samples import DT_NS, capabilities, make_observation

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.types import ActionChunk

H = 8
SPACE = ModelSpace(position_m=0.05)
LENGTH_M, LANE_M, GOAL_M = 0.30, 0.06, 0.05
STEPS = 6


def path(lane: float, goal: float) -> np.ndarray:
    """Rows (H, 3) [m] that pass on one side and end on one side."""
    s = np.linspace(0.0, 1.0, H)
    y = lane * LANE_M * np.sin(np.pi * s) + goal * GOAL_M * s**2
    return np.stack([LENGTH_M * s, y, np.zeros(H)], axis=1)


WAYS = [(lane, goal) for lane in (-1.0, 1.0) for goal in (-1.0, 1.0)]
MEANS = np.zeros((len(WAYS), H, 7))
MEANS[:, :, :3] = [path(*way) / SPACE.position_m for way in WAYS]


@dataclass(frozen=True)
class Table:
    """An obstacle on one side of the way and a goal on one side of its end; -1 or 1 each."""

    obstacle: float
    goal: float

    def distance_m(self, chunk: ActionChunk) -> float:
        """How far the rows are from touching (positive: free), and from missing the goal."""
        fine = np.linspace(0, H - 1, 100)
        x, y = (np.interp(fine, np.arange(H), chunk.positions[:, k]) for k in (0, 1))
        clearance = np.hypot(x - LENGTH_M / 2, y - self.obstacle * LANE_M).min() - 0.04
        return float(min(clearance, 0.02 - abs(y[-1] - self.goal * GOAL_M)))

    def is_solved_by(self, chunk: ActionChunk) -> bool:
        return self.distance_m(chunk) > 0.0


def table_of(seed: int) -> Table:
    rng = np.random.default_rng([seed, 3])
    obstacle, goal = rng.choice([-1.0, 1.0], size=2)
    return Table(float(obstacle), float(goal))


def flow(table: Table, obstacle: float, goal: float, seed: int) -> FlowMixturePolicy:
    """A policy that avoids the obstacle and meets the goal with these odds, 0.5: knows nothing."""
    odds = np.array(
        [
            (obstacle if lane != table.obstacle else 1.0 - obstacle)
            * (goal if side == table.goal else 1.0 - goal)
            for lane, side in WAYS
        ]
    )
    return FlowMixturePolicy(
        lambda request: Modes(odds, MEANS),
        capabilities(trained_prefix_max=4),
        spread=Spread(first=0.02, last=0.15, correlation=0.9),
        space=SPACE,
        n_denoising_steps=STEPS,
        seed=seed,
    )


def parents(table: Table, seed: int) -> tuple[FlowMixturePolicy, FlowMixturePolicy]:
    """One that knows the obstacle, one that knows the goal."""
    return flow(table, 0.97, 0.5, seed), flow(table, 0.5, 0.97, seed + 1_000_000)


def request_of(seq: int = 1) -> InferenceRequest:
    return InferenceRequest(observation=make_observation(), target0_ns=0, dt_ns=DT_NS, seq=seq)


def candidates_of(policy: FlowMixturePolicy, n: int, seed: int = 0) -> list[ActionChunk]:
    """The first candidates of ``flow_sampler(policy, seed)``, denoised all at once."""
    request = request_of()
    own = policy.noise(request)
    drawn = [
        np.random.default_rng([seed, request.seq, k]).standard_normal(own.shape)
        for k in range(1, n)
    ]
    x = np.stack([own, *drawn])
    for step in range(STEPS):
        x = x + policy.velocity(x, step / STEPS, request) / STEPS
    return [policy.from_model(rows, request) for rows in x]
