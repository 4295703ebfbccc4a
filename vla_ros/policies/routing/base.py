# SPDX-License-Identifier: Apache-2.0
"""What a router is asked and what it answers; everything a decision depends on is in the query.

Records hold queries and choices, so that the same router, asked again, must choose the same.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from vla_ros.errors import ConfigError
from vla_ros.policies.base import Tensors
from vla_ros.policies.timing import CallTiming
from vla_ros.types import Observation


class Backbone(enum.Enum):
    """Which of the two models."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, kw_only=True)
class RouteQuery:
    """One decision.

    Attributes:
        seq: number of the call that is decided on; a call may need two decisions.
        deadline_ns: when an answer is wanted.
        features: how difficult the observation looks; what they are is up to who computes them.
        uncertainty: what the small model says of its answer, larger is less certain; None before it
            was asked, or if it does not say.
        has_small_answer: the small model has answered; LARGE now means: ask the large one too.
        small_ns, large_ns: how long each is expected to take [ns].
        is_large_up: the large model answered in time when it was last asked.
    """

    seq: int
    now_ns: int
    deadline_ns: int
    features: Mapping[str, float] = field(default_factory=dict)
    uncertainty: float | None = None
    has_small_answer: bool = False
    small_ns: int = 0
    large_ns: int = 0
    is_large_up: bool = True

    @property
    def has_time_for_large(self) -> bool:
        """Whether the large model can answer in time and, should it fail, the small one after it.

        An answer of the small model that is there already costs no more time.
        """
        after_ns = 0 if self.has_small_answer else self.small_ns
        return self.now_ns + self.large_ns + after_ns <= self.deadline_ns


@dataclass(frozen=True)
class Choice:
    """What to ask, and why in a few words."""

    backbone: Backbone
    reason: str


@dataclass(frozen=True, kw_only=True)
class RouteRecord:
    """A decision: what the router wanted, and what was done after deadline and faults had a say."""

    query: RouteQuery
    wanted: Choice
    done: Choice


@dataclass(frozen=True, kw_only=True)
class RouteOutcome:
    """What became of a call: whose answer it was, how long it took, why not the other's."""

    seq: int
    backbone: Backbone
    duration_ns: int
    fallback: str = ""


class Router(Protocol):
    """Chooses by the query alone; reads no clock. May have a memory of queries it was asked."""

    name: str

    def choose(self, query: RouteQuery) -> Choice:
        """Return what to ask."""


@dataclass(frozen=True)
class Answer:
    """A latent; how uncertain the model is of it, and where its time went, if it says so."""

    tensors: Tensors
    uncertainty: float | None = None
    timing: CallTiming | None = None


class Backend(Protocol):
    """A model that is asked now and answers later, one call at a time."""

    name: str

    def begin(self, observation: Observation, now_ns: int) -> None:
        """Ask; what was asked before is abandoned."""

    def poll(self, now_ns: int) -> Answer | None:
        """Return the answer, or None while there is none.

        Raises:
            PolicyError: if there will be none.
        """

    def abandon(self) -> None:
        """Expect no answer any more."""


def to_json(record: RouteRecord) -> str:
    """Return a decision as one line of JSON."""
    values = asdict(record)
    values["query"]["features"] = dict(record.query.features)
    for name in ("wanted", "done"):
        values[name]["backbone"] = values[name]["backbone"].value
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def from_json(line: str) -> RouteRecord:
    """Return the decision that a line says.

    Raises:
        ConfigError: if the line is not a record.
    """
    try:
        values = json.loads(line)
        wanted, done = (
            Choice(Backbone(values[name]["backbone"]), str(values[name]["reason"]))
            for name in ("wanted", "done")
        )
        return RouteRecord(query=RouteQuery(**values["query"]), wanted=wanted, done=done)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not a record of a decision: {error}") from error


def replayed(records: Iterable[RouteRecord], router: Router) -> list[tuple[RouteRecord, Choice]]:
    """Return the records that a router now decides otherwise, with what it chooses now."""
    now = ((record, router.choose(record.query)) for record in records)
    return [(record, choice) for record, choice in now if choice != record.wanted]
