# SPDX-License-Identifier: Apache-2.0
"""Routing as a slow policy, and a slow policy as a backend."""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.errors import ConfigError
from vla_ros.policies.base import SlowPolicy, Tensors
from vla_ros.policies.diagnostics import diagnostics_of
from vla_ros.policies.routing.base import Answer, Backbone
from vla_ros.policies.routing.dispatch import Dispatcher
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
        return Answer(tensors, None if of is None else of(tensors))

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
    """

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
        self._dispatcher.begin(observation, self._now_ns())
        while True:
            answer = self._dispatcher.poll(self._now_ns())
            if answer is not None:
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
