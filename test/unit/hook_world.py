# SPDX-License-Identifier: Apache-2.0
"""A point with lag that a biased policy moves to a goal, 100 steps a second of virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from strategy_samples import IDENTITY_QUAT, make_observation

from vla_ros.chunking.rows import sample
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.fast_policy import HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.limiter import CommandLimiter, LimiterConfig
from vla_ros.policies.hooks.residual import BoundedResidual, ResidualConfig
from vla_ros.policies.hooks.terms import HookedRows
from vla_ros.types import ActionChunk, Latent, Observation

MS = 1_000_000
PERIOD_NS = 10 * MS
ROWS = 12
LATENT = Latent(tensors={}, stamp=LatencyStamp(kind=StampKind.LATENT))
BIAS_M = np.array([0.009, -0.012, 0.0])  # 15 mm
TOLERANCE_M = 0.014
_LAG_S = 0.02


class BiasedPolicy:
    """Goes from the reference it is shown to a goal, but 15 mm beside it."""

    name = "biased"
    chunk_rows = ROWS
    chunk_dt_ns = PERIOD_NS

    def __init__(self, goal: np.ndarray, bias: np.ndarray) -> None:
        self._aim = goal + bias

    def reset(self) -> None:
        pass

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        start = observation.state.T_base_ref[:3, 3]
        left = np.exp(-np.arange(ROWS) * 1e-9 * PERIOD_NS / 0.1)[:, None]
        return ActionChunk(
            target0_ns=now_ns,
            dt_ns=PERIOD_NS,
            positions=self._aim + (start - self._aim) * left,
            quats_xyzw=np.tile(IDENTITY_QUAT, (ROWS, 1)),
            gripper_width_m=np.full(ROWS, 0.04),
        )


@dataclass
class World:
    """One episode; ``gain`` 0: no residual, -1: one of the wrong sign."""

    seed: int
    gain: float = 1.0
    config: ResidualConfig = field(default_factory=ResidualConfig)
    limits: LimiterConfig = field(default_factory=LimiterConfig)
    now_ns: int = 1_000 * MS
    is_source_alive: bool = True

    def __post_init__(self) -> None:
        rng = self.random = np.random.default_rng([self.seed, 17])
        self.goal = rng.uniform(-0.1, 0.1, 3)
        # What the residual corrects, and what differs from episode to episode.
        self.bias = BIAS_M + 0.004 * rng.standard_normal(3)
        self.position = self.goal + rng.uniform(-0.05, 0.05, 3)
        self.reference = self.position.copy()
        self.residual = BoundedResidual(self.config)
        self.log: list[HookedRows] = []
        self.references: list[np.ndarray] = []
        chain = HookChain(self.residual, CommandLimiter(self.limits), self.log.append)
        self.policy = HookedFastPolicy(PlainExpert(BiasedPolicy(self.goal, self.bias)), chain)

    def observation(self) -> Observation:
        seen = make_observation(self.now_ns)
        measured, asked = np.eye(4), np.eye(4)
        measured[:3, 3], asked[:3, 3] = self.position, self.reference
        return replace(seen, state=replace(seen.state, T_base_ee=measured, T_base_ref=asked))

    def step(self) -> None:
        if self.is_source_alive and self.gain:
            # A learned residual: knows the systematic part, with some noise.
            value = np.zeros(6)
            value[:3] = -self.gain * BIAS_M + 0.001 * self.random.standard_normal(3)
            self.residual.offer(value, self.now_ns, self.now_ns)
        command = self.policy.decode(LATENT, self.observation(), self.now_ns)
        self.now_ns += PERIOD_NS
        self.reference = sample(command, np.array([self.now_ns])).positions[0]
        share = 1.0 - np.exp(-1e-9 * PERIOD_NS / _LAG_S)
        self.position = self.position + share * (self.reference - self.position)
        self.references.append(self.reference)

    def run(self, steps: int) -> World:
        for _ in range(steps):
            self.step()
        return self

    @property
    def error_m(self) -> float:
        return float(np.linalg.norm(self.position - self.goal))

    @property
    def is_solved(self) -> bool:
        return self.error_m < TOLERANCE_M
