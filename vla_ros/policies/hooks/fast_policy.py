# SPDX-License-Identifier: Apache-2.0
"""Hooks around a fast policy; the result is one too, and the executor does not know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import displaced
from vla_ros.chunking.strategies.base import (
    GenerativePolicy,
    InferenceRequest,
    PolicyCapabilities,
    Prefix,
)
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.geometry import quat_xyzw_to_matrix, rotation_vector_to_quat
from vla_ros.policies.around import AroundFast, answered, timing_of
from vla_ros.policies.base import FastPolicy
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.steering import SteeredFlow, SteeringConfig, SteeringCost
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

Array = NDArray[np.float64]
Candidate = tuple[ActionChunk, ActionChunk | None]


class Expert(FastPolicy, Protocol):
    """A fast policy that can also be asked what it says without steering."""

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return base rows and steered ones, or None for these."""

    def candidates(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[Candidate, ...]:
        """Return the same for a request, of every candidate, best first."""


class _Decoding:
    """What an expert says steered, as any fast policy is asked."""

    def decode(self: Expert, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the rows, steered if there is anything to steer by."""
        base, steered = self.rows(latent, observation, now_ns)
        return base if steered is None else steered

    def decode_request(
        self: Expert, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return every candidate, steered if there is anything to steer by."""
        candidates = self.candidates(latent, request, now_ns)
        return tuple(base if steered is None else steered for base, steered in candidates)


class PlainExpert(_Decoding, AroundFast):
    """A fast policy that cannot be steered: a black box."""

    def __init__(self, policy: FastPolicy) -> None:
        super().__init__(policy)
        self._policy = policy
        self.name = policy.name

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return what the policy says."""
        return self._policy.decode(latent, observation, now_ns), None

    def candidates(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[Candidate, ...]:
        """Return what the policy says to the request."""
        return tuple((chunk, None) for chunk in answered(self._policy, latent, request, now_ns))

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()


class FlowExpert(_Decoding):
    """A flow policy as a fast one: denoised twice from the same noise, freely and steered.

    Args:
        flow_of: the policy given a latent; the same object for the same latent saves time.
        costs: what to steer by; without any it denoises once.
        chunk_rows, chunk_dt_ns: time grid of its rows.
        name: for people.
        capabilities: what the policies that ``flow_of`` returns can do; None: they are guided.

    Attributes:
        last_timing: of the last call, as the policy says; None if it does not.
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
        capabilities: PolicyCapabilities | None = None,
    ) -> None:
        self._flow_of, self._costs, self._config = flow_of, tuple(costs), config
        self.name, self.chunk_rows, self.chunk_dt_ns = name, chunk_rows, chunk_dt_ns
        self.capabilities = capabilities or PolicyCapabilities(
            horizon=chunk_rows, dt_ns=chunk_dt_ns, is_guided=True, has_split_latent=True
        )
        self.last_timing: CallTiming | None = None
        self._flow: GenerativePolicy | None = None
        self._seq = 0

    @property
    def alarm(self) -> str:
        """What the policy of the last call says is wrong with it."""
        return alarm_of(self._flow)

    def diagnostics(self) -> dict[str, float | str]:
        """Return what the policy of the last call says of itself."""
        return diagnostics_of(self._flow)

    def rows(
        self, latent: Latent, observation: Observation, now_ns: int
    ) -> tuple[ActionChunk, ActionChunk | None]:
        """Return both chunks."""
        request = InferenceRequest(
            observation=observation,
            target0_ns=observation.state.tick_ns,
            dt_ns=self.chunk_dt_ns,
        )
        return self._answer(latent, request)

    def candidates(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[Candidate, ...]:
        """Return both chunks, tied to the request's prefix; the prefix is not steered away from."""
        return (self._answer(latent, request),)

    def _answer(self, latent: Latent, request: InferenceRequest) -> Candidate:
        self._seq += 1
        flow = self._flow = self._flow_of(latent)
        # Numbers of our own: those of a strategy go on after a reset, and so would the noise.
        request = replace(request, seq=self._seq)
        base, steered = guided_denoise(flow, request), None
        if self._costs:
            steered = guided_denoise(SteeredFlow(flow, self._costs, self._config), request)
        self.last_timing = timing_of(flow)
        return base, steered

    def reset(self) -> None:
        """Noise begins anew, so that an episode can be repeated."""
        self._seq = 0


class HookedFastPolicy(AroundFast):
    """A ``FastPolicy`` whose rows went through a chain of hooks.

    The expert is shown the arm where it would be without the residual. Shown the arm itself, it
    would begin its rows there, the residual would be added once more, and at every step again.
    """

    def __init__(self, expert: Expert, chain: HookChain) -> None:
        super().__init__(expert)
        self._expert, self._chain = expert, chain
        self.name = f"hooked({expert.name})"

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the rows to execute; errors are those of the policy."""
        shown = without_residual(observation, self._chain.residual_applied)
        base, steered = self._expert.rows(latent, shown, now_ns)
        return self._chain.apply(base, now_ns, steered).command

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return every candidate with the same residual; a prefix is shown without it."""
        residual = self._chain.residual_applied
        shown = replace(
            request,
            observation=without_residual(request.observation, residual),
            prefix=_prefix_without(request.prefix, residual),
        )
        candidates = self._expert.candidates(latent, shown, now_ns)
        return tuple(rows.command for rows in self._chain.apply_all(candidates, now_ns))

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


def _prefix_without(prefix: Prefix | None, residual: Array) -> Prefix | None:
    """Return a prefix as the base policy would have it: what it continues is its own rows."""
    if prefix is None or not residual.any():
        return prefix
    offsets = np.tile(-residual, (prefix.rows.horizon, 1))
    return replace(prefix, rows=displaced(prefix.rows, offsets))
