# SPDX-License-Identifier: Apache-2.0
"""What the dispatcher does when a model dies, hangs, refuses or is late."""

from __future__ import annotations

import math

import numpy as np
import pytest
from routing_samples import (
    LARGE_MS,
    MS,
    SMALL_MS,
    WordCount,
    World,
    draw_scenes,
    make_world,
    observation_of,
)

from vla_ros.clock import ManualClock
from vla_ros.errors import PolicyError, PolicyTimeoutError
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.routing.base import Backbone, Router
from vla_ros.policies.routing.routers import (
    FixedRouter,
    LearnedRouter,
    LogisticScorer,
    RuleRouter,
    UncertaintyRouter,
)
from vla_ros.policies.routing.slow_policy import RoutedSlowPolicy

SCENES = draw_scenes(200, seed=1)
ALWAYS_LARGE = FixedRouter(Backbone.LARGE)
ROUTERS: dict[str, Router] = {
    "rule": RuleRouter("clutter", 5.5),
    "uncertainty": UncertaintyRouter(0.5),
    "learned": LearnedRouter(LogisticScorer({"clutter": 2.0}, bias=-11.0)),
}
every_router = pytest.mark.parametrize("router", ROUTERS.values(), ids=ROUTERS.keys())


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
    assert "did not answer within 100 ms" in alarm_of(policy)
    assert diagnostics_of(policy) == {"route_fallbacks": 1}
