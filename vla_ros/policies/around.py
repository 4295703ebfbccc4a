# SPDX-License-Identifier: Apache-2.0
"""What a wrapper passes on of the policy it is around, so that the runtime sees the same abilities.

The runtime asks policies for what more they can do (``base``: capabilities, requests with prefix
and guidance, cameras, latent contract, timing). A wrapper that left one of these out would quietly
take the ability away. The functions here give the answer of any policy, with what the runtime
assumes of one that does not say; the classes are what wrappers inherit from.
"""

from __future__ import annotations

from dataclasses import replace

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.policies.base import (
    AnswersRequests,
    Capable,
    FastPolicy,
    LatentContract,
    LooksAtCameras,
    ReusesFeatures,
    TimesItself,
)
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent

UNSTATED = 0  # of a hash: anything goes


def capabilities_of_fast(policy: FastPolicy) -> PolicyCapabilities:
    """Return what a fast policy can do; one that does not say decodes fresh state and no more."""
    if isinstance(policy, Capable):
        return policy.capabilities
    return PolicyCapabilities(
        horizon=policy.chunk_rows, dt_ns=policy.chunk_dt_ns, has_split_latent=True
    )


def answered(
    policy: FastPolicy, latent: Latent, request: InferenceRequest, now_ns: int
) -> tuple[ActionChunk, ...]:
    """Ask a fast policy; one that takes no requests is shown the observation alone.

    Raises:
        PolicyError: if the policy fails, or cannot be tied in the way asked for.
    """
    if isinstance(policy, AnswersRequests):
        return policy.decode_request(latent, request, now_ns)
    return (policy.decode(latent, request.observation, now_ns),)


def timing_of(policy: object) -> CallTiming | None:
    """Return where the time of a policy's last call went; None if it does not say."""
    return policy.last_timing if isinstance(policy, TimesItself) else None


def has_reused(policy: object) -> bool:
    """Return whether a policy's last latent is in part of earlier images."""
    return isinstance(policy, ReusesFeatures) and policy.has_reused


def cameras_of(policy: object) -> tuple[str, ...]:
    """Return the cameras a policy needs; none if it does not say."""
    return tuple(policy.cameras) if isinstance(policy, LooksAtCameras) else ()


def shared(a: PolicyCapabilities, b: PolicyCapabilities) -> PolicyCapabilities:
    """Return what two policies can both do; the time grid is that of the first."""
    return replace(
        a,
        execution_rows=min(max(a.execution_rows, b.execution_rows), a.horizon),
        is_guided=a.is_guided and b.is_guided,
        has_vjp=a.has_vjp and b.has_vjp,
        trained_prefix_max=min(a.trained_prefix_max, b.trained_prefix_max),
        is_relative=a.is_relative and b.is_relative,
        has_split_latent=a.has_split_latent and b.has_split_latent,
        has_age_input=a.has_age_input and b.has_age_input,
        n_candidates=min(a.n_candidates, b.n_candidates),
        has_scores=a.has_scores and b.has_scores,
        has_uncertainty=a.has_uncertainty and b.has_uncertainty,
        has_correction=a.has_correction and b.has_correction,
        takes_projected_state=a.takes_projected_state and b.takes_projected_state,
    )


class Around:
    """A wrapper of either half. Says of itself what the policy inside says of itself."""

    capabilities: PolicyCapabilities  # absent where the policy does not state any

    def __init__(self, policy: object) -> None:
        self.__inside = policy
        self.cameras = cameras_of(policy)
        if isinstance(policy, Capable):
            self.capabilities = policy.capabilities
        stated = policy if isinstance(policy, LatentContract) else None
        self.latent_schema_hash = stated.latent_schema_hash if stated else UNSTATED
        self.model_hash = stated.model_hash if stated else UNSTATED
        self.latent_bytes = stated.latent_bytes if stated else 0

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went; None if the policy does not say."""
        return timing_of(self.__inside)

    @property
    def has_reused(self) -> bool:
        """Whether the last latent is in part of earlier images."""
        return has_reused(self.__inside)

    @property
    def alarm(self) -> str:
        """What the policy says is wrong with it."""
        return alarm_of(self.__inside)

    def diagnostics(self) -> dict[str, float | str]:
        """Return what the policy says of itself."""
        return diagnostics_of(self.__inside)


class AroundFast(Around):
    """A wrapper of a fast policy, on the same time grid."""

    def __init__(self, policy: FastPolicy) -> None:
        super().__init__(policy)
        self.chunk_rows, self.chunk_dt_ns = policy.chunk_rows, policy.chunk_dt_ns
        self.capabilities = capabilities_of_fast(policy)
