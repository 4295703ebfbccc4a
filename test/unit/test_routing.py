# SPDX-License-Identifier: Apache-2.0
"""Small against large model, in virtual time: success, latency, faults, replay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from routing_samples import LARGE_MS, MS, SMALL_MS, World, draw_scenes, make_world, observation_of

from vla_ros.clock import ManualClock
from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
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
    """As many large calls as another router, on other scenes."""

    name = "random"

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._random = share, np.random.default_rng(seed)

    def choose(self, query: RouteQuery) -> Choice:
        is_large = self._random.random() < self._share
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
    control = make_world(RandomRouter(world.large.asked / N, seed=2), SCENES)
    by_chance, _ = control.ask_all()
    # In the control every small answer is offered to the router once more.
    assert control.large.asked >= world.large.asked
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


@pytest.mark.parametrize("fault", ["is_dead", "is_hung", "refuses"])
@pytest.mark.parametrize("router", [ALWAYS_LARGE, RuleRouter("clutter", -9.0)], ids=["", "rule"])
def test_a_large_model_that_is_killed_is_replaced_within_two_ticks(
    fault: str, router: Router
) -> None:
    world = make_world(router, SCENES, large_budget_ms=200.0, retry_after_s=1e3)
    world.tick_ms = 33.0
    for scene in SCENES[:5]:
        world.ask(scene)
    assert world.dispatcher.alarm == ""
    world.dispatcher.begin(observation_of(SCENES[5]), world.now_ns)
    world.now_ns += 33 * MS
    assert world.dispatcher.poll(world.now_ns) is None
    setattr(world.large, fault, True)
    killed_ns = world.now_ns
    answer = None
    while answer is None and world.now_ns < killed_ns + 1000 * MS:
        world.now_ns += 33 * MS
        answer = world.dispatcher.poll(world.now_ns)
    if fault == "refuses":  # it lives on until it is asked again
        killed_ns = world.now_ns
        world.ask(SCENES[6])
    waited_ms = (world.now_ns - killed_ns) / MS
    # A process that is gone says so; one that hangs is only known by its budget.
    budget_ms = 200.0 if fault == "is_hung" else 0.0
    assert waited_ms <= budget_ms + 2 * 33.0
    assert "large model" in world.dispatcher.alarm
    asked = world.large.asked
    latency_ms = [world.ask(scene)[1] for scene in SCENES[10:40]]
    assert max(latency_ms) <= 33.0  # the rate of the small model alone
    assert world.large.asked == asked
    assert world.dispatcher.fallbacks == 1
    assert [o.fallback != "" for o in world.outcomes].count(True) == 1


def test_a_kept_answer_of_the_small_model_is_there_at_once_when_the_large_one_dies() -> None:
    world = make_world(UncertaintyRouter(-1.0), SCENES)
    world.dispatcher.begin(observation_of(SCENES[0]), world.now_ns)
    world.now_ns += 8 * MS
    assert world.dispatcher.poll(world.now_ns) is None  # small has answered, large is asked
    assert (world.small.asked, world.large.asked) == (1, 1)
    world.large.is_dead = True
    answer = world.dispatcher.poll(world.now_ns + MS)
    assert answer is not None
    assert bool(answer.tensors["succeeds"][0]) == SCENES[0].small_succeeds
    assert world.small.asked == 1


def test_the_alarm_ends_when_the_large_model_answers_again() -> None:
    world = make_world(ALWAYS_LARGE, SCENES, retry_after_s=0.5)
    world.large.is_dead = True
    world.ask(SCENES[0])
    assert world.dispatcher.alarm
    world.large.is_dead = False
    world.now_ns += 400 * MS
    world.ask(SCENES[1])
    assert world.outcomes[-1].backbone is Backbone.SMALL
    assert world.records[-1].done.reason == "the large model is down"
    world.now_ns += 200 * MS
    world.ask(SCENES[2])
    assert world.outcomes[-1].backbone is Backbone.LARGE
    assert world.dispatcher.alarm == ""


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


@every_router
def test_no_answer_is_later_than_the_deadline_whatever_the_large_model_does(router: Router) -> None:
    rng = np.random.default_rng(3)
    world = make_world(router, SCENES, deadline_ms=200.0, retry_after_s=0.0)
    late = []
    for scene in SCENES[:150]:
        world.large.duration_ms = float(rng.lognormal(math.log(120.0), 0.8))
        late.append(world.ask(scene)[1] > 200.0)
    assert not any(late)
    assert world.dispatcher.fallbacks > 5


def test_what_is_measured_replaces_what_was_expected() -> None:
    world = make_world(ALWAYS_LARGE, SCENES, large_expected_ms=10.0)
    world.large.duration_ms = 92.0
    for scene in SCENES[:5]:
        world.ask(scene)
    assert world.records[0].query.large_ns == 10 * MS
    assert world.records[-1].query.large_ns == 92 * MS


def test_without_any_answer_there_is_an_error_and_the_next_call_works() -> None:
    world = make_world(FixedRouter(Backbone.SMALL), SCENES, deadline_ms=100.0)
    world.small.is_hung = True
    with pytest.raises(PolicyTimeoutError, match="within 100 ms"):
        world.ask(SCENES[0])
    world.small.is_hung = False
    assert world.ask(SCENES[1])[1] == SMALL_MS
    world.small.is_dead = True
    with pytest.raises(PolicyError, match="connection closed"):
        world.ask(SCENES[2])
    world.small.is_dead = False
    assert world.ask(SCENES[3])[1] == SMALL_MS


def test_models_with_different_latents_are_refused() -> None:
    world = make_world(RuleRouter("clutter", 5.5), SCENES)
    world.large.dtype = np.float64
    with pytest.raises(PolicyError, match="other tensors"):
        world.ask_all()


def test_a_new_call_gives_up_the_old_one() -> None:
    world = make_world(ALWAYS_LARGE, SCENES)
    world.dispatcher.begin(observation_of(SCENES[0]), world.now_ns)
    wanted = next(s for s in SCENES if not s.large_succeeds)
    success, latency_ms = world.ask(wanted)
    assert not success
    assert latency_ms == LARGE_MS
    world.dispatcher.abandon()
    assert not world.dispatcher.is_busy
    assert world.dispatcher.poll(world.now_ns) is None


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


class WordCount:
    """A slow policy whose latent is the length of the sentence."""

    max_age_s = 1.0

    def __init__(self, name: str, clock: ManualClock, duration_ms: int) -> None:
        self.name, self._clock, self._duration_ms, self.resets = name, clock, duration_ms, 0

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        self.resets += 1

    def encode(self, observation: object) -> dict[str, np.ndarray]:
        self._clock.advance(self._duration_ms * MS)
        return {"by": np.array([len(self.name)])}


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
    assert policy.diagnostics() == {"route_fallbacks": 0, "route_alarm": ""}


def test_a_hung_large_policy_does_not_hold_up_the_slow_policy() -> None:
    clock = ManualClock()
    world: World = make_world(ALWAYS_LARGE, SCENES, large_budget_ms=100.0)
    world.large.is_hung = True
    policy = RoutedSlowPolicy(
        (WordCount("a", clock, 0), WordCount("b", clock, 0)),
        world.dispatcher,
        clock.now_ns,
        lambda s: clock.advance(round(s * 1e9)),
    )
    start_ns = clock.now_ns()
    policy.encode(observation_of(SCENES[0]))
    assert (clock.now_ns() - start_ns) / MS == pytest.approx(100.0 + SMALL_MS, abs=5.0)
    assert "did not answer within 100 ms" in str(policy.diagnostics()["route_alarm"])
