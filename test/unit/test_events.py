# SPDX-License-Identifier: Apache-2.0
"""Events in the middle of a motion: when, what, and where to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.learning.split import SEEN_GOALS, evaluation_goal
from vla_ros.sim.events import Carrier, EpisodeEvent, EventConfig
from vla_ros.sim.lazy_frames import LazyFrames
from vla_ros.sim.tasks import sample_layout

S = 1_000_000_000
SEED = 900_000


def event(kind: str, seed: int = SEED, **changes: float) -> EpisodeEvent:
    goal = evaluation_goal(seed, held_out=False)
    return EpisodeEvent(EventConfig(kind=kind, **changes), seed, goal, sample_layout(seed))


def test_it_happens_once_when_it_is_due_after_the_first_rows() -> None:
    swap = event("swap", earliest_s=0.5, latest_s=0.5)
    assert swap.due_ns is None
    assert not swap.happen(5 * S)
    swap.plan(7 * S)
    swap.plan(8 * S)  # only the first rows count
    assert swap.due_ns == 7 * S + S // 2
    before = swap.goal
    assert not swap.happen(7 * S + S // 2 - 1)
    assert swap.goal == before
    assert swap.happen(7 * S + S // 2)
    assert not swap.happen(9 * S)
    assert swap.at_ns == 7 * S + S // 2
    assert swap.goal != before


def test_without_an_event_nothing_happens() -> None:
    nothing = event("none")
    nothing.plan(S)
    assert nothing.due_ns is None
    assert not nothing.happen(100 * S)


@pytest.mark.parametrize("seed", range(SEED, SEED + 30))
def test_a_swap_names_another_cube_for_the_same_bowl(seed: int) -> None:
    swap = event("swap", seed)
    before = swap.goal
    swap.plan(0)
    assert swap.happen(10 * S)
    assert swap.goal.bowl_colour == before.bowl_colour
    assert swap.goal.cube_colour != before.cube_colour
    assert swap.goal in SEEN_GOALS


def test_a_jump_is_as_long_as_asked_for_and_leaves_room() -> None:
    tight = 0
    for seed in range(SEED, SEED + 60):
        jump = event("jump", seed)
        goal, layout = evaluation_goal(seed, held_out=False), sample_layout(seed)
        assert jump.place is not None
        way = math.dist(jump.place, layout.cubes[goal.cube_colour][:2])
        assert 0.08 <= way <= 0.30
        others = [p[:2] for c, p in layout.cubes.items() if c != goal.cube_colour]
        assert all(math.dist(jump.place, p) > 0.08 for p in others)
        tight += any(math.dist(jump.place, p) < 0.11 for p in others)
        assert event("jump", seed).place == jump.place
    assert tight <= 6


def test_times_and_ways_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="latest_s"):
        EventConfig(kind="swap", earliest_s=1.0, latest_s=0.5)


def test_a_carried_cube_comes_to_rest_where_it_should() -> None:
    end = np.array([0.55, 0.1, 0.02])
    carrier = Carrier(start=np.array([0.45, -0.1, 0.02]), end=end, mass_kg=0.05, duration_s=0.3)
    position, velocity, dt_s = np.array([0.45, -0.1, 0.02]), np.zeros(3), 0.001
    highest = 0.0
    for i in range(300):
        if i % 5 == 0:  # as often as the lock step asks
            force = carrier.force(i * dt_s, position, velocity)[:3]
        velocity = velocity + dt_s * (force / 0.05 - np.array([0.0, 0.0, 9.81]))
        position = position + dt_s * velocity
        highest = max(highest, position[2])
    assert np.linalg.norm(position - end) < 0.004
    assert np.linalg.norm(velocity) < 0.15
    assert highest > 0.07  # over what may lie between


def test_images_are_drawn_when_somebody_looks_and_once() -> None:
    drawn = []
    frames = LazyFrames(("a", "b"), lambda: drawn.append(1) or {"a": "image a", "b": "image b"})
    assert list(frames) == ["a", "b"]
    assert len(frames) == 2
    assert not drawn
    assert frames["a"] == "image a"
    assert frames.get("c") is None
    assert list(frames.values()) == ["image a", "image b"]
    assert drawn == [1]
