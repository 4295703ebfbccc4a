# SPDX-License-Identifier: Apache-2.0
"""Chunks, situations and a loop in virtual time for the tests of execution strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vla_ros.chunking.strategies.base import (
    InferenceRequest,
    PolicyCapabilities,
    Situation,
    Strategy,
)
from vla_ros.rotations import exp
from vla_ros.types import ActionChunk, ControlMode, Observation, RobotState

DT_NS = 50_000_000
H = 8
IDENTITY_QUAT = np.array([0.0, 0.0, 0.0, 1.0])


def capabilities(**changes: object) -> PolicyCapabilities:
    return PolicyCapabilities(**{"horizon": H, "dt_ns": DT_NS, **changes})


def able(**changes: object) -> PolicyCapabilities:
    """A policy that can do everything."""
    everything: dict[str, object] = {
        "is_guided": True,
        "has_vjp": True,
        "trained_prefix_max": 4,
        "n_candidates": 3,
        "has_correction": True,
        "takes_projected_state": True,
    }
    return capabilities(**{**everything, **changes})


def make_chunk(
    target0_ns: int, x: object, *, grip: float = 0.04, dt_ns: int = DT_NS
) -> ActionChunk:
    """Rows whose x positions are given; y, z 0, no rotation."""
    xs = np.atleast_1d(np.asarray(x, dtype=float))
    positions = np.zeros((len(xs), 3))
    positions[:, 0] = xs
    return ActionChunk(
        target0_ns=target0_ns,
        dt_ns=dt_ns,
        positions=positions,
        quats_xyzw=np.tile(IDENTITY_QUAT, (len(xs), 1)),
        gripper_width_m=np.full(len(xs), 0.04),
    )


def random_chunk(target0_ns: int, rng: np.random.Generator, n: int = H) -> ActionChunk:
    walk = np.cumsum(rng.normal(scale=0.01, size=(n, 3)), axis=0)
    spins = np.cumsum(rng.normal(scale=0.05, size=(n, 3)), axis=0)
    return ActionChunk(
        target0_ns=target0_ns,
        dt_ns=DT_NS,
        positions=walk,
        quats_xyzw=exp(spins),
        gripper_width_m=rng.uniform(0.0, 0.08, n),
    )


def make_state(now_ns: int = 0, x: float = 0.0) -> RobotState:
    pose = np.eye(4)
    pose[0, 3] = x
    return RobotState(
        seq=now_ns // 1_000_000,
        tick_ns=now_ns,
        mode=ControlMode.TRACK,
        q=np.full(7, x),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=pose,
        twist_base=np.zeros(6),
        T_base_ref=pose.copy(),
        twist_ref_base=np.zeros(6),
        gripper_width_m=0.04,
        gripper_target_m=0.04,
    )


def make_observation(now_ns: int = 0, x: float = 0.0) -> Observation:
    return Observation(
        state=make_state(now_ns, x), instruction="red into bowl", instruction_id=1, episode_id=1
    )


def situation(now_ns: int, *, delay_ns: int = 0, in_flight: int = 0, x: float = 0.0) -> Situation:
    return Situation(
        now_ns=now_ns,
        observation=make_observation(now_ns, x),
        delay_ns=delay_ns,
        in_flight=in_flight,
    )


Answer = Callable[[InferenceRequest], tuple[ActionChunk, ...]]


@dataclass
class Loop:
    """Calls a strategy once per step: offer, request, plan. ``delay_steps`` may depend on k.

    A delay of None is a result that is lost; ``twice`` says which results come twice.
    """

    strategy: Strategy
    answer: Answer
    delay_steps: Callable[[int], int | None] = lambda k: 0
    twice: Callable[[int], bool] = lambda k: False
    delay_estimate_ns: int = 0
    now_ns: int = 0
    dt_ns: int = DT_NS
    requests: list[InferenceRequest] = field(default_factory=list)
    plans: list[ActionChunk | None] = field(default_factory=list)
    pending: list[tuple[int, InferenceRequest, bool]] = field(default_factory=list)

    def step(self) -> ActionChunk | None:
        due = [entry for entry in self.pending if entry[0] <= self.now_ns]
        self.pending = [entry for entry in self.pending if entry[0] > self.now_ns]
        for _, request, is_lost in sorted(due, key=lambda entry: entry[0]):
            if not is_lost:
                self.strategy.offer(self.answer(request), request, self.now_ns)
        asked = self.strategy.request(self._situation())
        if asked is not None:
            self._launch(asked)
        rows = self.strategy.plan(self._situation())
        self.plans.append(rows)
        self.now_ns += self.dt_ns
        return rows

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def _situation(self) -> Situation:
        return situation(self.now_ns, delay_ns=self.delay_estimate_ns, in_flight=len(self.pending))

    def _launch(self, request: InferenceRequest) -> None:
        k = len(self.requests)
        self.requests.append(request)
        delay = self.delay_steps(k)
        done_ns = self.now_ns + (delay or 1) * self.dt_ns
        if delay == 0:
            self.strategy.offer(self.answer(request), request, self.now_ns)
            return
        self.pending.append((done_ns, request, delay is None))
        if self.twice(k):
            self.pending.append((done_ns + self.dt_ns, request, False))


def executed_x(plans: list[ActionChunk | None], start_ns: int = 0) -> list[float]:
    """x position that is in force at each step; NaN where there were no rows."""
    found = []
    for k, rows in enumerate(plans):
        now_ns = start_ns + k * DT_NS
        if rows is None or now_ns < rows.target0_ns:
            found.append(float("nan"))
            continue
        i = min((now_ns - rows.target0_ns) // rows.dt_ns, rows.horizon - 1)
        found.append(float(rows.positions[i, 0]))
    return found


def executed_pose(plans: list[ActionChunk | None]) -> np.ndarray:
    """Positions (n, 3) in force at the steps that had rows."""
    found = []
    for k, rows in enumerate(plans):
        if rows is not None and k * DT_NS >= rows.target0_ns:
            i = min((k * DT_NS - rows.target0_ns) // rows.dt_ns, rows.horizon - 1)
            found.append(rows.positions[i])
    return np.array(found)


def same(a: ActionChunk, b: ActionChunk) -> bool:
    return (
        np.array_equal(a.positions, b.positions)
        and np.array_equal(a.quats_xyzw, b.quats_xyzw)
        and np.array_equal(a.gripper_width_m, b.gripper_width_m)
    )
