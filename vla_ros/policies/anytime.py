# SPDX-License-Identifier: Apache-2.0
"""Refine an answer until a deadline and return the best one so far.

A step is begun only if the slowest of the recent ones, with a margin, would end in time. Which
answer is best is said by an energy (smaller is better), not by the order in which they came.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

Candidate = TypeVar("Candidate")


@dataclass(frozen=True, kw_only=True)
class PaceConfig:
    """How the duration of the next step is expected."""

    first_ms: float = setting(
        5.0, "duration of a step before any was measured", unit="ms", ge=0.0, le=60_000.0
    )
    margin: float = setting(1.25, "of the slowest recent step", ge=1.0, le=10.0)
    window: int = setting(50, "steps that count", unit="steps", ge=1, le=1000)

    def __post_init__(self) -> None:
        check_fields(self)


class DeadlinePace:
    """Knows how long steps take and says whether another one ends in time."""

    def __init__(self, config: PaceConfig | None = None) -> None:
        self._config = config or PaceConfig()
        self._durations: deque[int] = deque(maxlen=self._config.window)

    @property
    def expected_ns(self) -> int:
        """How long the next step may take [ns]."""
        if not self._durations:
            return round(self._config.first_ms * NS_PER_MS)
        return round(self._config.margin * max(self._durations))

    def fits(self, now_ns: int, deadline_ns: int) -> bool:
        """Return whether a step that begins now should end by the deadline."""
        return now_ns + self.expected_ns <= deadline_ns

    def add(self, duration_ns: int) -> None:
        """Take the duration of a step [ns]; a clock that went back counts as 0."""
        self._durations.append(max(duration_ns, 0))

    def forget_slowest(self) -> None:
        """Forget the slowest step that counts: after a stall nothing would ever fit again."""
        if self._durations:
            self._durations.remove(max(self._durations))


class AnytimeModel(Protocol[Candidate]):
    """A model that improves its answer step by step."""

    n_steps: int

    def first(self, observation: Observation) -> Candidate:
        """Return an answer that costs next to nothing: what the steps begin with."""

    def refine(self, candidate: Candidate, step: int) -> Candidate:
        """Return the answer after one more step, numbered from 0."""

    def energy(self, candidate: Candidate) -> float:
        """Return how bad an answer is; NaN if it is unusable."""


@dataclass(frozen=True)
class AnytimeAnswer(Generic[Candidate]):
    """The best answer by the deadline.

    Attributes:
        energy: of the best answer; infinite if none was usable.
        steps: taken; ``is_complete`` if these are all.
        is_late: the last step ended after the deadline.
    """

    best: Candidate
    energy: float
    steps: int
    is_complete: bool
    is_late: bool


def refine_until(
    model: AnytimeModel[Candidate],
    observation: Observation,
    deadline_ns: int,
    now_ns: Callable[[], int],
    pace: DeadlinePace,
) -> AnytimeAnswer[Candidate]:
    """Take as many steps as end by the deadline, at most ``n_steps``; return the best answer.

    Args:
        model: what refines.
        observation: what it sees.
        deadline_ns: when the answer is wanted.
        now_ns: reads the clock, before and after every step.
        pace: learns how long steps take; the same one for every call of a model.
    """
    candidate = best = model.first(observation)
    lowest = _usable(model.energy(best))
    started_ns = now_ns()
    step = 0
    while step < model.n_steps and pace.fits(started_ns, deadline_ns):
        candidate = model.refine(candidate, step)
        energy = _usable(model.energy(candidate))
        if energy < lowest:
            best, lowest = candidate, energy
        ended_ns = now_ns()
        pace.add(ended_ns - started_ns)
        started_ns = ended_ns
        step += 1
    if step == 0:
        pace.forget_slowest()
    return AnytimeAnswer(best, lowest, step, step == model.n_steps, started_ns > deadline_ns)


def _usable(energy: float) -> float:
    return math.inf if math.isnan(energy) else energy


class AnytimeFastPolicy:
    """A ``FastPolicy`` that refines its rows for a fixed time and returns the best ones.

    Args:
        model_of: the model given a latent; its candidates are chunks.
        budget_s: time for a call, from ``now_ns`` of ``decode`` on.
        clock_ns: reads the clock that ``now_ns`` is of.
        chunk_rows, chunk_dt_ns: time grid of its rows.
        capabilities: what its models can do; None: refine rows from fresh state.
        model_for: the model given a latent and a request, whose prefix and guidance it heeds.

    Attributes:
        last_timing: of the last call: all of it is computing.
    """

    def __init__(
        self,
        model_of: Callable[[Latent], AnytimeModel[ActionChunk]],
        budget_s: float,
        clock_ns: Callable[[], int],
        *,
        chunk_rows: int,
        chunk_dt_ns: int,
        name: str = "anytime",
        pace: PaceConfig | None = None,
        capabilities: PolicyCapabilities | None = None,
        model_for: Callable[[Latent, InferenceRequest], AnytimeModel[ActionChunk]] | None = None,
    ) -> None:
        if not 0.0 < budget_s <= 60.0:
            raise ConfigError(f"budget_s must be above 0 and at most 60 s, got {budget_s}")
        self._model_of, self._model_for, self._clock_ns = model_of, model_for, clock_ns
        self.capabilities = capabilities or PolicyCapabilities(
            horizon=chunk_rows, dt_ns=chunk_dt_ns, has_split_latent=True
        )
        self.last_timing: CallTiming | None = None
        self._budget_ns = round(budget_s * NS_PER_S)
        self._pace = DeadlinePace(pace)
        self.name, self.chunk_rows, self.chunk_dt_ns = name, chunk_rows, chunk_dt_ns
        self.last: AnytimeAnswer[ActionChunk] | None = None

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the best rows by the end of the budget.

        Raises:
            PolicyTimeoutError: if none of the rows so far is usable.
        """
        return self._refined(self._model_of(latent), observation, now_ns)

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return the best rows for a request by the end of the budget.

        Raises:
            PolicyError: if it has a prefix and the models are not told of requests.
            PolicyTimeoutError: if none of the rows so far is usable.
        """
        if self._model_for is not None:
            model = self._model_for(latent, request)
        elif request.prefix is None:
            model = self._model_of(latent)
        else:
            raise PolicyError(f"{self.name} takes no prefix")
        return (self._refined(model, request.observation, now_ns),)

    def _refined(
        self, model: AnytimeModel[ActionChunk], observation: Observation, now_ns: int
    ) -> ActionChunk:
        deadline_ns, began_ns = now_ns + self._budget_ns, self._clock_ns()
        self.last = refine_until(model, observation, deadline_ns, self._clock_ns, self._pace)
        self.last_timing = CallTiming(compute_ns=self._clock_ns() - began_ns)
        if math.isinf(self.last.energy):
            raise PolicyTimeoutError(f"no usable rows after {self.last.steps} steps")
        return self.last.best

    def reset(self) -> None:
        """Forget the last answer; how long steps take is kept."""
        self.last = None
