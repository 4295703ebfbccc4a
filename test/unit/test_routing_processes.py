# SPDX-License-Identifier: Apache-2.0
"""A small and a large model in processes of their own, and a router that has a deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from policy_stubs import observations
from served_policies import LARGE_MS, ServerProcess

from vla_ros.policies.remote.client import RemoteBackend, RemoteSlowPolicy
from vla_ros.policies.routing.base import (
    Backbone,
    Choice,
    RouteOutcome,
    RouteQuery,
    Router,
    RouteRecord,
    from_json,
    replayed,
    to_json,
)
from vla_ros.policies.routing.dispatch import DispatchConfig, Dispatcher
from vla_ros.policies.routing.routers import (
    FixedRouter,
    LearnedRouter,
    LogisticScorer,
    RuleRouter,
    UncertaintyRouter,
)
from vla_ros.types import Observation

N, TICK_S = 16, 0.004
# Far above what the models take, so that a busy machine does not turn large calls into small ones.
CONFIG = DispatchConfig(
    deadline_ms=20_000.0, large_budget_ms=10_000.0, large_expected_ms=LARGE_MS, retry_after_s=60.0
)
IS_HARD = np.random.default_rng(5).random(N) < 0.3


def scene(k: int) -> Observation:
    return replace(observations()[0], instruction="hard" if IS_HARD[k] else "easy")


def difficulty(observation: Observation) -> dict[str, float]:
    return {"clutter": 8.0 if observation.instruction == "hard" else 3.0}


class RandomRouter:
    """As many large calls, at random: the control."""

    name = "random"

    def __init__(self, n_large: int) -> None:
        chosen = np.random.default_rng(1).permutation(N)[:n_large]
        self._large = {int(k) + 1 for k in chosen}

    def choose(self, query: RouteQuery) -> Choice:
        is_large = query.seq in self._large
        return Choice(Backbone.LARGE if is_large else Backbone.SMALL, "by chance")


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[dict[str, ServerProcess]]:
    folder = tmp_path_factory.mktemp("models")
    with (
        ServerProcess("small", f"unix:{folder / 'small'}") as small,
        ServerProcess("large", f"unix:{folder / 'large'}") as large,
    ):
        yield {"small": small, "large": large}


class Caller:
    """Asks a dispatcher as a loop does: one look for an answer per tick."""

    def __init__(self, servers: dict[str, ServerProcess], router: Router) -> None:
        self.log: list[RouteRecord | RouteOutcome] = []
        small, large = (
            RemoteBackend(
                RemoteSlowPolicy(servers[name].address), lambda t: float(t["uncertainty"][0])
            )
            for name in ("small", "large")
        )
        self.dispatcher = Dispatcher(
            small, large, router, CONFIG, difficulty=difficulty, log=self.log.append
        )
        self.looks = 0

    def ask(self, observation: Observation, kill_after: int = 0, victim=None) -> bool:
        self.dispatcher.begin(observation, time.monotonic_ns())
        self.looks = 0
        while (answer := self.dispatcher.poll(time.monotonic_ns())) is None:
            self.looks += 1
            if victim is not None and self.looks == kill_after:
                victim.kill()
                self.looks = 0
                victim = None
            time.sleep(TICK_S)
        return bool(answer.tensors["succeeds"][0])

    def ask_all(self) -> tuple[float, float]:
        """Share of right answers, and their mean latency [ms]."""
        right = [self.ask(scene(k)) for k in range(N)]
        took = [entry.duration_ns * 1e-6 for entry in self.log if isinstance(entry, RouteOutcome)]
        return float(np.mean(right)), float(np.mean(took))

    @property
    def records(self) -> list[RouteRecord]:
        return [entry for entry in self.log if isinstance(entry, RouteRecord)]


ROUTERS = [
    RuleRouter("clutter", 5.0),
    UncertaintyRouter(0.5),
    LearnedRouter(LogisticScorer({"clutter": 2.0}, bias=-11.0)),
]


@pytest.fixture(scope="module")
def always_large(servers: dict[str, ServerProcess]) -> tuple[float, float]:
    return Caller(servers, FixedRouter(Backbone.LARGE)).ask_all()


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: router.name)
def test_success_of_the_large_model_at_half_its_latency(
    servers: dict[str, ServerProcess], always_large: tuple[float, float], router: Router
) -> None:
    caller = Caller(servers, router)
    success, latency_ms = caller.ask_all()
    assert success >= always_large[0] - 0.03
    assert latency_ms <= 0.5 * always_large[1]
    # Decisions survive being written down, and are the same when made again.
    again = [from_json(to_json(record)) for record in caller.records]
    assert replayed(again, router) == []


def test_a_random_router_with_as_many_large_calls_is_worse(
    servers: dict[str, ServerProcess], always_large: tuple[float, float]
) -> None:
    success, _ = Caller(servers, RandomRouter(int(IS_HARD.sum()))).ask_all()
    assert success < always_large[0] - 0.1


def test_a_killed_large_server_is_noticed_within_two_ticks(
    servers: dict[str, ServerProcess],
) -> None:
    caller = Caller(servers, FixedRouter(Backbone.LARGE))
    assert caller.ask(scene(0))
    caller.ask(scene(0), kill_after=3, victim=servers["large"])
    outcome = caller.log[-1]
    assert isinstance(outcome, RouteOutcome)
    assert outcome.backbone is Backbone.SMALL
    assert "large" in outcome.fallback
    assert caller.dispatcher.alarm
    # The look after the kill asks the small one, which needs its 8 ms and the way.
    assert outcome.duration_ns < 1e6 * LARGE_MS * 10
    fell_back = caller.dispatcher.fallbacks
    assert caller.ask(scene(1)) == (not IS_HARD[1])
    assert caller.dispatcher.fallbacks == fell_back  # it is left alone for a while
    servers["large"].start()
