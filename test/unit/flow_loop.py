# SPDX-License-Identifier: Apache-2.0
"""A flow policy under a strategy, with delay, in virtual time and without a robot.

The arm is where its plan says it is; what is asked of the policy and what it answers is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.chunking.rows import sample
from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.sim.execution import ExecutionConfig
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.sim.whole_execution import WholeExecution
from vla_ros.types import ActionChunk, Observation


@dataclass
class Kept:
    """A policy that keeps its answers."""

    policy: Any
    answers: list[tuple[InferenceRequest, tuple[ActionChunk, ...]]] = field(default_factory=list)

    @property
    def capabilities(self):
        return self.policy.capabilities

    def infer(self, request):
        chunks = self.policy.infer(request)
        self.answers.append((request, chunks))
        return chunks

    def reset(self):
        self.policy.reset()

    def kept_share(self) -> tuple[float, int]:
        """Return how far frozen rows are from the plan at most [m], and how often it was asked."""
        apart = [0.0]
        for request, (rows, *_) in self.answers:
            if request.prefix is not None and request.prefix.frozen_len:
                n = request.prefix.frozen_len
                away = rows.positions[:n] - request.prefix.rows.positions[:n]
                apart.append(float(np.linalg.norm(away, axis=1).max()))
        return max(apart), len(apart) - 1


@dataclass
class Run:
    """What came of it: seams [m] where plans were switched, and whoever answered."""

    seams_m: list[float]
    kept: Kept
    execution: WholeExecution
    plans: list[ActionChunk]


def run(
    policy: Any, strategy: str, seen: Observation, *, latency_ms: float, steps: int = 60
) -> Run:
    """Run a policy under a strategy for some rows; ``seen`` is what it sees, apart from time."""
    kept = Kept(policy)
    config = ExecutionConfig(strategy=strategy, delay=DelayConfig(mean_ms=latency_ms))
    execution = WholeExecution(kept, config)
    execution.begin(seen.episode_id, 0)
    now, dt_ns = seen.state.tick_ns, policy.capabilities.dt_ns
    plan: ActionChunk | None = None
    seams, plans = [], []
    for _ in range(steps):
        execution.look(now, _at(seen, now, plan))
        result = execution.step(now, _at(seen, now, plan))
        if result.chunk is not None:
            plan = result.chunk
            plans.append(plan)
        if np.isfinite(result.seam_m) and result.chunk is not None:
            seams.append(result.seam_m)
        now += dt_ns
    return Run(seams, kept, execution, plans)


def _at(seen: Observation, now_ns: int, plan: ActionChunk | None) -> Observation:
    T = seen.state.T_base_ref.copy()
    if plan is not None:
        T[:3, 3] = sample(plan, np.array([now_ns])).positions[0]
    state = replace(seen.state, tick_ns=now_ns, T_base_ref=T, T_base_ee=T)
    frames = {n: replace(f, capture_ns=now_ns) for n, f in seen.frames.items()}
    return replace(seen, state=state, frames=frames)
