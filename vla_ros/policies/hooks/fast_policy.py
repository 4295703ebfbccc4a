# SPDX-License-Identifier: Apache-2.0
"""Hooks around a fast policy; the result is one too, and the executor does not know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import GenerativePolicy, InferenceRequest
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.geometry import quat_xyzw_to_matrix, rotation_vector_to_quat
from vla_ros.policies.base import FastPolicy
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.steering import SteeredFlow, SteeringConfig, SteeringCost
from vla_ros.types import ActionChunk, Latent, Observation

Array = NDArray[np.float64]


class Expert(Protocol):
    """A fast policy that can also be asked what it says without steering."""

    name: str
    chunk_rows: int
    chunk_dt_ns: int

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return base rows and steered ones, or None for these."""

    def reset(self) -> None:
        """Forget everything: a new episode or instruction begins."""


class PlainExpert:
    """A fast policy that cannot be steered: a black box."""

    def __init__(self, policy: FastPolicy) -> None:
        self._policy = policy
        self.name = policy.name
        self.chunk_rows, self.chunk_dt_ns = policy.chunk_rows, policy.chunk_dt_ns

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return what the policy says."""
        return self._policy.decode(latent, observation, now_ns), None

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()


class FlowExpert:
    """A flow policy as a fast one: denoised twice from the same noise, freely and steered.

    Args:
        flow_of: the policy given a latent; the same object for the same latent saves time.
        costs: what to steer by; without any it denoises once.
        chunk_rows, chunk_dt_ns: time grid of its rows.
        name: for people.
    """

    def __init__(
        self,
        flow_of: Callable[[Latent], GenerativePolicy],
        costs: Sequence[SteeringCost],
        *,
        chunk_rows: int,
        chunk_dt_ns: int,
        name: str = "flow",
        config: SteeringConfig | None = None,
    ) -> None:
        self._flow_of, self._costs, self._config = flow_of, tuple(costs), config
        self.name, self.chunk_rows, self.chunk_dt_ns = name, chunk_rows, chunk_dt_ns
        self._seq = 0

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return both chunks."""
        self._seq += 1
        flow = self._flow_of(latent)
        request = InferenceRequest(
            observation=observation,
            target0_ns=observation.state.tick_ns,
            dt_ns=self.chunk_dt_ns,
            seq=self._seq,
        )
        base = guided_denoise(flow, request)
        if not self._costs:
            return base, None
        return base, guided_denoise(SteeredFlow(flow, self._costs, self._config), request)

    def reset(self) -> None:
        """Noise begins anew, so that an episode can be repeated."""
        self._seq = 0


class HookedFastPolicy:
    """A ``FastPolicy`` whose rows went through a chain of hooks.

    The expert is shown the arm where it would be without the residual. Shown the arm itself, it
    would begin its rows there, the residual would be added once more, and at every step again.
    """

    def __init__(self, expert: Expert, chain: HookChain) -> None:
        self._expert, self._chain = expert, chain
        self.name = f"hooked({expert.name})"
        self.chunk_rows, self.chunk_dt_ns = expert.chunk_rows, expert.chunk_dt_ns

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the rows to execute; errors are those of the policy."""
        shown = without_residual(observation, self._chain.residual_applied)
        base, steered = self._expert.rows(latent, shown, now_ns)
        return self._chain.apply(base, now_ns, steered).command

    def reset(self) -> None:
        """Forget everything: a new episode or instruction begins."""
        self._expert.reset()
        self._chain.reset()


def without_residual(observation: Observation, residual: Array) -> Observation:
    """Return what would be seen with the arm, and its reference, displaced by less ``residual``.

    Joint positions stay as measured.
    """
    if not residual.any():
        return observation
    state = observation.state
    R = quat_xyzw_to_matrix(rotation_vector_to_quat(-residual[3:]))
    poses = []
    for T in (state.T_base_ee, state.T_base_ref):
        shown = T.copy()
        shown[:3, 3] = T[:3, 3] - residual[:3]
        shown[:3, :3] = R @ T[:3, :3]
        poses.append(shown)
    return replace(observation, state=replace(state, T_base_ee=poses[0], T_base_ref=poses[1]))
