# SPDX-License-Identifier: Apache-2.0
"""Routing as a slow policy, and a slow policy as a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.errors import ConfigError
from vla_ros.policies.around import UNSTATED, cameras_of, shared, timing_of
from vla_ros.policies.base import Capable, LatentContract, SlowPolicy, Tensors
from vla_ros.policies.diagnostics import diagnostics_of
from vla_ros.policies.routing.base import Answer, Backbone
from vla_ros.policies.routing.dispatch import Dispatcher
from vla_ros.policies.timing import CallTiming
from vla_ros.types import Observation


class InlineBackend:
    """A slow policy in this thread: it computes when it is first polled.

    A call cannot be given up once it computes, so this suits the small model; a large one that may
    hang belongs into another process.

    Args:
        policy: what computes.
        uncertainty_of: reads the uncertainty from the latent; None: it does not say.
    """

    def __init__(
        self, policy: SlowPolicy, uncertainty_of: Callable[[Tensors], float] | None = None
    ) -> None:
        self._policy = policy
        self._uncertainty_of = uncertainty_of
        self._observation: Observation | None = None
        self.name = policy.name

    def begin(self, observation: Observation, now_ns: int) -> None:
        """Remember what to compute."""
        self._observation = observation

    def poll(self, now_ns: int) -> Answer | None:
        """Compute; errors are those of the policy."""
        if self._observation is None:
            return None
        observation, self._observation = self._observation, None
        tensors = self._policy.encode(observation)
        of = self._uncertainty_of
        uncertainty = None if of is None else of(tensors)
        return Answer(tensors, uncertainty, timing_of(self._policy))

    def abandon(self) -> None:
        """Forget what was asked."""
        self._observation = None


class RoutedSlowPolicy:
    """A ``SlowPolicy`` that asks a small and a large one by way of a ``Dispatcher``.

    Args:
        policies: the small and the large policy, which check instructions and are reset together.
        dispatcher: of backends around the same policies.
        now_ns: the clock; read while a call is under way.
        wait: waits for a number of seconds; an event's ``wait`` makes it possible to cut short.
        poll_s: between two looks for an answer.

    Attributes:
        capabilities: what both can do; absent if one of them does not say.
        latent_schema_hash, model_hash: what both state, 0 (anything goes) where they differ.
        last_timing: of the last call: what the model that answered says; the rest was waiting.
    """

    capabilities: PolicyCapabilities

    def __init__(
        self,
        policies: tuple[SlowPolicy, SlowPolicy],
        dispatcher: Dispatcher,
        now_ns: Callable[[], int],
        wait: Callable[[float], object],
        poll_s: float = 0.001,
    ) -> None:
        if not 0.0 < poll_s <= 1.0:
            raise ConfigError(f"poll_s must be above 0 and at most 1 s, got {poll_s}")
        self._policies = policies
        self._dispatcher = dispatcher
        self._now_ns, self._wait, self._poll_s = now_ns, wait, poll_s
        self.name = f"routed({', '.join(policy.name for policy in policies)})"
        self.max_age_s = min(policy.max_age_s for policy in policies)
        small, large = policies
        # In the order of the small one; a camera that only one of them needs is needed.
        self.cameras = tuple(dict.fromkeys(cameras_of(small) + cameras_of(large)))
        if isinstance(small, Capable) and isinstance(large, Capable):
            self.capabilities = shared(small.capabilities, large.capabilities)
        stated = [policy for policy in policies if isinstance(policy, LatentContract)]
        self.latent_schema_hash = _agreed([p.latent_schema_hash for p in stated])
        self.model_hash = _agreed([p.model_hash for p in stated])
        self.latent_bytes = max((p.latent_bytes for p in stated), default=0)
        self.last_timing: CallTiming | None = None

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if either policy does not understand it."""
        for policy in self._policies:
            policy.check_instruction(instruction)

    def reset(self) -> None:
        """Give up the call under way and forget everything seen."""
        self._dispatcher.abandon()
        for policy in self._policies:
            policy.reset()

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent of one of the models; errors are those of ``Dispatcher.poll``."""
        began_ns = self._now_ns()
        self._dispatcher.begin(observation, began_ns)
        while True:
            answer = self._dispatcher.poll(self._now_ns())
            if answer is not None:
                known = answer.timing or CallTiming()
                waited_ns = max(0, self._now_ns() - began_ns - known.total_ns)
                if answer.timing is None:
                    self.last_timing = CallTiming(compute_ns=waited_ns)
                else:
                    self.last_timing = replace(known, queue_ns=known.queue_ns + waited_ns)
                return answer.tensors
            self._wait(self._poll_s)

    @property
    def alarm(self) -> str:
        """Why the large model is not asked, empty if it is."""
        return self._dispatcher.alarm

    def diagnostics(self) -> dict[str, float | str]:
        """Return how often it fell back, and what both policies say of themselves."""
        values: dict[str, float | str] = {"route_fallbacks": self._dispatcher.fallbacks}
        for backbone, policy in zip(Backbone, self._policies, strict=True):
            values |= {f"{backbone.value}_{k}": v for k, v in diagnostics_of(policy).items()}
        return values


def _agreed(hashes: Sequence[int]) -> int:
    """Return what both state, or that anything goes."""
    return hashes[0] if len(hashes) == 2 and hashes[0] == hashes[1] else UNSTATED
