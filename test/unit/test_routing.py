# SPDX-License-Identifier: Apache-2.0
"""Small against large model, in virtual time: success, latency, faults, replay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from routing_samples import (
    LARGE_MS,
    MS,
    SMALL_MS,
    WordCount,
    draw_scenes,
    make_world,
    observation_of,
)

from vla_ros.clock import ManualClock
from vla_ros.errors import ConfigError
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.routing.base import (
    Backbone,
    Choice,
    RouteQuery,
    Router,
    from_json,
    replayed,
    to_json,
)
from vla_ros.policies.routing.routers import (
    FixedRouter,
    LearnedRouter,
    LogisticScorer,
    RuleRouter,
    UncertaintyRouter,
)
from vla_ros.policies.routing.slow_policy import InlineBackend, RoutedSlowPolicy
from vla_ros.report.statistics import mcnemar_p

N = 600
SCENES = draw_scenes(N, seed=1)
ALWAYS_LARGE = FixedRouter(Backbone.LARGE)


class RandomRouter:
    """As many large calls as another router, on scenes drawn by chance."""

    name = "random"

    def __init__(self, large_calls: int, seed: int) -> None:
        drawn = np.random.default_rng(seed).choice(N, size=large_calls, replace=False)
        self._large = {int(k) + 1 for k in drawn}

    def choose(self, query: RouteQuery) -> Choice:
        is_large = query.seq in self._large and not query.has_small_answer
        return Choice(Backbone.LARGE if is_large else Backbone.SMALL, "by chance")


def learned() -> LearnedRouter:
    return LearnedRouter(LogisticScorer({"clutter": 2.0}, bias=-11.0))


ROUTERS: dict[str, Router] = {
    "rule": RuleRouter("clutter", 5.5),
    "uncertainty": UncertaintyRouter(0.5),
    "learned": learned(),
}
every_router = pytest.mark.parametrize("router", ROUTERS.values(), ids=ROUTERS.keys())


Answers = tuple[list[bool], list[float]]


@pytest.fixture(scope="module")
def always_large() -> Answers:
    return make_world(ALWAYS_LARGE, SCENES).ask_all()


@every_router
def test_success_of_the_large_model_at_half_its_latency(
    router: Router, always_large: Answers
) -> None:
    success, latency_ms = make_world(router, SCENES).ask_all()
    assert np.mean(success) >= np.mean(always_large[0]) - 0.03
    assert np.mean(latency_ms) <= 0.5 * np.mean(always_large[1])
    assert np.mean(always_large[1]) == pytest.approx(LARGE_MS)


@every_router
def test_a_random_router_with_as_many_large_calls_is_worse(router: Router) -> None:
    world = make_world(router, SCENES)
    success, _ = world.ask_all()
    control = make_world(RandomRouter(world.large.asked, seed=2), SCENES)
    by_chance, _ = control.ask_all()
    assert control.large.asked == world.large.asked
    assert np.mean(success) - np.mean(by_chance) > 0.05
    assert mcnemar_p(success, by_chance) < 1e-6


def test_the_small_model_alone_fails_on_hard_scenes() -> None:
    success, latency_ms = make_world(FixedRouter(Backbone.SMALL), SCENES).ask_all()
    hard = [s for s, scene in zip(success, SCENES, strict=True) if scene.is_hard]
    assert np.mean(hard) < 0.15
    assert max(latency_ms) == SMALL_MS


@every_router
def test_decisions_are_the_same_on_replay(router: Router) -> None:
    scenes = SCENES[:150]
    world = make_world(router, scenes)
    world.ask_all()
    lines = [to_json(record) for record in world.records]
    records = [from_json(line) for line in lines]
    assert records == world.records
    assert replayed(records, router) == []
    again = make_world(router, scenes)
    again.ask_all()
    assert [to_json(record) for record in again.records] == lines
    assert [o.duration_ns for o in again.outcomes] == [o.duration_ns for o in world.outcomes]


def test_replay_finds_decisions_of_another_router() -> None:
    world = make_world(RuleRouter("clutter", 5.5), SCENES[:100])
    world.ask_all()
    changed = replayed(world.records, RuleRouter("clutter", 2.0))
    assert {record.query.seq for record, _ in changed} >= {
        scene.number + 1 for scene in SCENES[:100] if 2.0 < scene.clutter <= 5.5
    }


def test_a_deadline_too_short_for_the_large_model_takes_the_small_one() -> None:
    world = make_world(ALWAYS_LARGE, SCENES, deadline_ms=155.0)
    world.ask(SCENES[0])
    record = world.records[0]
    assert record.wanted.backbone is Backbone.LARGE
    assert record.done.backbone is Backbone.SMALL
    assert record.done.reason == "the large model takes 150 ms, 155 ms are left"
    enough = make_world(ALWAYS_LARGE, SCENES, deadline_ms=165.0)
    enough.ask(SCENES[0])
    assert enough.outcomes[0].backbone is Backbone.LARGE


def test_what_is_measured_replaces_what_was_expected() -> None:
    world = make_world(ALWAYS_LARGE, SCENES, large_expected_ms=10.0)
    world.large.duration_ms = 92.0
    for scene in SCENES[:5]:
        world.ask(scene)
    assert world.records[0].query.large_ns == 10 * MS
    assert world.records[-1].query.large_ns == 92 * MS


NAN = math.nan
QUERY = RouteQuery(seq=1, now_ns=0, deadline_ns=400 * MS, features={"clutter": 4.0})


@pytest.mark.parametrize(
    ("router", "query", "expected"),
    [
        (RuleRouter("clutter", 4.0), QUERY, Backbone.SMALL),
        (RuleRouter("clutter", 3.9), QUERY, Backbone.LARGE),
        (RuleRouter("glare", 4.0), QUERY, Backbone.LARGE),
        (
            RuleRouter("clutter", 9.0),
            replace(QUERY, features={"clutter": math.nan}),
            Backbone.LARGE,
        ),
        (UncertaintyRouter(0.5), QUERY, Backbone.SMALL),
        (UncertaintyRouter(0.5), replace(QUERY, has_small_answer=True), Backbone.LARGE),
        (
            UncertaintyRouter(0.5),
            replace(QUERY, has_small_answer=True, uncertainty=0.5),
            Backbone.SMALL,
        ),
        (LearnedRouter(LogisticScorer({"clutter": 1.0}, -3.9)), QUERY, Backbone.LARGE),
        (LearnedRouter(LogisticScorer({"clutter": 1.0}, -4.1)), QUERY, Backbone.SMALL),
        (LearnedRouter(LogisticScorer({"glare": -1e6})), QUERY, Backbone.LARGE),
        (LearnedRouter(LogisticScorer({"uncertainty": 9.0}, -1.0)), QUERY, Backbone.SMALL),
    ],
)
def test_choices(router: Router, query: RouteQuery, expected: Backbone) -> None:
    choice = router.choose(query)
    assert choice.backbone is expected
    assert router.choose(query) == choice


def test_scores_that_are_not_finite_count_as_difficult() -> None:
    class Broken:
        def score(self, query: RouteQuery) -> float:
            return math.nan

    assert LearnedRouter(Broken()).choose(QUERY).backbone is Backbone.LARGE
    with pytest.raises(ConfigError, match="threshold must be finite"):
        RuleRouter("clutter", math.inf)


@pytest.mark.parametrize("line", ["", "{}", '{"query":{},"wanted":{},"done":{}}', "[1]"])
def test_lines_that_are_no_records_are_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="not a record"):
        from_json(line)


def test_it_is_a_slow_policy() -> None:
    clock = ManualClock()
    policies = (WordCount("few", clock, 8), WordCount("plenty", clock, 150))
    world = make_world(UncertaintyRouter(5.0), SCENES)
    dispatcher = type(world.dispatcher)(
        InlineBackend(policies[0], lambda tensors: 9.0 if clock.now_ns() > 2000 * MS else 0.0),
        InlineBackend(policies[1]),
        UncertaintyRouter(5.0),
    )
    policy = RoutedSlowPolicy(
        policies, dispatcher, clock.now_ns, lambda s: clock.advance(round(s * 1e9))
    )
    observation = observation_of(SCENES[0])
    assert policy.encode(observation)["by"][0] == 3
    clock.advance(2000 * MS)
    assert policy.encode(observation)["by"][0] == 6
    policy.reset()
    assert [p.resets for p in policies] == [1, 1]
    assert diagnostics_of(policy) == {"route_fallbacks": 0}
    assert alarm_of(policy) == ""
