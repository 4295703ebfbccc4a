# SPDX-License-Identifier: Apache-2.0
"""Asks small or large model as a router says, and falls back when the large one does not answer.

    begin -> router: large, or small
    small answers -> router again, now with its uncertainty: that answer, or large too
    large fails or is late -> the answer of the small one, which is asked now if it was not before

The large model is asked only if it can answer before the deadline. One that fails or is late is
left alone for a while; the alarm stands until it answers again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import PolicyError, PolicyTimeoutError, VlaRosError
from vla_ros.latency.estimator import LatencyEstimator
from vla_ros.latency.stamping import schema_hash
from vla_ros.policies.routing.base import (
    Answer,
    Backbone,
    Backend,
    Choice,
    RouteOutcome,
    RouteQuery,
    Router,
    RouteRecord,
)
from vla_ros.types import Observation

Difficulty = Callable[[Observation], Mapping[str, float]]
Log = Callable[[RouteRecord | RouteOutcome], None]

_WINDOW = 40
_FRACTION = 0.95


@dataclass(frozen=True, kw_only=True)
class DispatchConfig:
    """Deadlines, and what is expected before anything was measured."""

    deadline_ms: float = setting(
        400.0, "from the request to the answer", unit="ms", ge=1.0, le=60_000.0
    )
    large_budget_ms: float = setting(
        300.0, "the large model is given up after", unit="ms", ge=1.0, le=60_000.0
    )
    small_expected_ms: float = setting(
        10.0, "duration of a small call, until measured", unit="ms", ge=0.0, le=60_000.0
    )
    large_expected_ms: float = setting(
        150.0, "duration of a large call, until measured", unit="ms", ge=0.0, le=60_000.0
    )
    retry_after_s: float = setting(
        2.0, "a large model that failed is asked again after", unit="s", ge=0.0, le=3600.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


class _Phase(enum.Enum):
    IDLE = 0
    SMALL = 1
    LARGE = 2


class Dispatcher:
    """One call at a time: ``begin`` it, then ``poll`` until it answers.

    It is handed the time; it reads no clock, waits for nothing and starts no thread.
    Thread-safety: one thread.

    Args:
        small, large: the models; their latents must have the same schema.
        router: chooses between them.
        difficulty: features of an observation; must be fast.
        log: takes every decision and every outcome, in order.
    """

    def __init__(
        self,
        small: Backend,
        large: Backend,
        router: Router,
        config: DispatchConfig | None = None,
        *,
        difficulty: Difficulty = lambda observation: {},
        log: Log = lambda record: None,
    ) -> None:
        self._backends = {Backbone.SMALL: small, Backbone.LARGE: large}
        self._router = router
        self._config = config or DispatchConfig()
        self._difficulty, self._log = difficulty, log
        self._durations = {b: LatencyEstimator(_WINDOW, warmup=0) for b in Backbone}
        self._phase = _Phase.IDLE
        self._seq = 0
        self._asked_ns = self._deadline_ns = self._phase_ns = self._reserve_ns = 0
        self._features: Mapping[str, float] = {}
        self._observation: Observation | None = None
        self._kept: Answer | None = None  # of the small model, while the large one is asked too
        self._fallback = ""
        self._refusal = ""  # of the large model, when it was asked
        self._down_until_ns = 0
        self._schema: int | None = None
        self.alarm = ""
        self.fallbacks = 0

    @property
    def is_busy(self) -> bool:
        """Whether a call was begun that has not been answered."""
        return self._phase is not _Phase.IDLE

    def abandon(self) -> None:
        """Give up the call."""
        for backend in self._backends.values():
            backend.abandon()
        self._phase = _Phase.IDLE

    def begin(self, observation: Observation, now_ns: int) -> None:
        """Ask for a latent of an observation; a call that was begun before is given up."""
        if self.is_busy:
            self.abandon()
        self._seq += 1
        self._asked_ns = now_ns
        self._deadline_ns = now_ns + round(self._config.deadline_ms * NS_PER_MS)
        self._observation, self._features = observation, dict(self._difficulty(observation))
        self._kept, self._fallback, self._refusal = None, "", ""
        self._ask(self._decide(now_ns, None), now_ns)

    def poll(self, now_ns: int) -> Answer | None:
        """Return the answer, or None while there is none.

        Raises:
            PolicyError: if the small model fails.
            PolicyTimeoutError: if nothing answered before the deadline.
        """
        if self._phase is _Phase.LARGE:
            return self._poll_large(now_ns)
        if self._phase is _Phase.SMALL:
            return self._poll_small(now_ns)
        return None

    def _poll_small(self, now_ns: int) -> Answer | None:
        try:
            answer = self._backends[Backbone.SMALL].poll(now_ns)
        except VlaRosError:
            self._phase = _Phase.IDLE
            raise
        if answer is None:
            if now_ns > self._deadline_ns:
                self.abandon()
                raise PolicyTimeoutError(
                    f"the small model did not answer within {self._config.deadline_ms:g} ms"
                )
            return None
        self._durations[Backbone.SMALL].add(now_ns - self._phase_ns)
        if not self._fallback and self._decide(now_ns, answer) is Backbone.LARGE:
            self._kept = answer
            self._ask(Backbone.LARGE, now_ns)
            return self._poll_large(now_ns)
        return self._finish(answer, Backbone.SMALL, now_ns)

    def _poll_large(self, now_ns: int) -> Answer | None:
        if self._refusal:
            return self._fall_back(self._refusal, now_ns)
        try:
            answer = self._backends[Backbone.LARGE].poll(now_ns)
        except VlaRosError as error:
            return self._fall_back(f"the large model failed: {error}", now_ns)
        if answer is not None:
            self._durations[Backbone.LARGE].add(now_ns - self._phase_ns)
            self._down_until_ns, self.alarm = 0, ""
            return self._finish(answer, Backbone.LARGE, now_ns)
        waited_ns = now_ns - self._phase_ns
        budget_ns = round(self._config.large_budget_ms * NS_PER_MS)
        if waited_ns >= budget_ns or now_ns + self._reserve_ns >= self._deadline_ns:
            self._backends[Backbone.LARGE].abandon()
            text = f"the large model did not answer within {waited_ns / NS_PER_MS:.0f} ms"
            return self._fall_back(text, now_ns)
        return None

    def _fall_back(self, reason: str, now_ns: int) -> Answer | None:
        self.fallbacks += 1
        self.alarm = self._fallback = reason
        self._down_until_ns = now_ns + round(self._config.retry_after_s * NS_PER_S)
        if self._kept is not None:
            return self._finish(self._kept, Backbone.SMALL, now_ns)
        self._ask(Backbone.SMALL, now_ns)
        return self._poll_small(now_ns)

    def _decide(self, now_ns: int, small: Answer | None) -> Backbone:
        query = RouteQuery(
            seq=self._seq,
            now_ns=now_ns,
            deadline_ns=self._deadline_ns,
            features=self._features,
            uncertainty=None if small is None else small.uncertainty,
            has_small_answer=small is not None,
            small_ns=self._expected_ns(Backbone.SMALL),
            large_ns=self._expected_ns(Backbone.LARGE),
            is_large_up=now_ns >= self._down_until_ns,
        )
        wanted = self._router.choose(query)
        done = _possible(wanted, query)
        self._log(RouteRecord(query=query, wanted=wanted, done=done))
        return done.backbone

    def _ask(self, backbone: Backbone, now_ns: int) -> None:
        assert self._observation is not None
        self._phase = _Phase.LARGE if backbone is Backbone.LARGE else _Phase.SMALL
        self._phase_ns = now_ns
        # Whoever answers in place of the large model needs time too.
        self._reserve_ns = 0 if self._kept is not None else self._expected_ns(Backbone.SMALL)
        try:
            self._backends[backbone].begin(self._observation, now_ns)
        except VlaRosError as error:
            if backbone is Backbone.SMALL:
                self._phase = _Phase.IDLE
                raise
            self._refusal = f"the large model failed: {error}"  # the next poll falls back

    def _finish(self, answer: Answer, backbone: Backbone, now_ns: int) -> Answer:
        self._phase = _Phase.IDLE
        found = schema_hash(answer.tensors)
        if self._schema not in (None, found):
            raise PolicyError(
                f"the latent of the {backbone.value} model has other tensors than the ones before: "
                f"{sorted(answer.tensors)}"
            )
        self._schema = found
        duration_ns = now_ns - self._asked_ns
        self._log(
            RouteOutcome(
                seq=self._seq,
                backbone=backbone,
                duration_ns=duration_ns,
                fallback=self._fallback,
            )
        )
        return answer

    def _expected_ns(self, backbone: Backbone) -> int:
        c = self._config
        measured_ns = self._durations[backbone].robust_ns(_FRACTION)
        expected_ms = c.small_expected_ms if backbone is Backbone.SMALL else c.large_expected_ms
        return measured_ns or round(expected_ms * NS_PER_MS)


def _possible(wanted: Choice, query: RouteQuery) -> Choice:
    """Return what is done: the small model where the large one cannot answer in time."""
    if wanted.backbone is Backbone.SMALL:
        return wanted
    if not query.is_large_up:
        return Choice(Backbone.SMALL, "the large model is down")
    if not query.has_time_for_large:
        left_ms = (query.deadline_ns - query.now_ns) / NS_PER_MS
        return Choice(
            Backbone.SMALL,
            f"the large model takes {query.large_ns / NS_PER_MS:.0f} ms, {left_ms:.0f} ms are left",
        )
    return wanted
