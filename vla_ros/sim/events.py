# SPDX-License-Identifier: Apache-2.0
"""Something new happens in the middle of a motion: other words, or the cube is put elsewhere.

Everything follows from the seed but the instant, which counts from the first rows: so the arm is on
its way whatever the delay. No MuJoCo needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.learning.split import SEEN_GOALS
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.sim.tasks import Layout, LayoutConfig

Array = NDArray[np.float64]

NONE, SWAP, JUMP = "none", "swap", "jump"
_STREAM = 17
_ATTEMPTS = 3000
_LIFT_M = 0.07  # over cubes and bowls
_STIFFNESS_PER_S2 = 60.0**2  # of the hand that carries; at 5 ms a step it does not ring
_DAMPING_PER_S = 2.0 * 60.0
_GRAVITY_M_S2 = 9.81


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """What happens, and when.

    ``swap``: the instruction names another cube. ``jump``: the cube it names is carried elsewhere
    within ``jump_s``, to a place that a layout could have.
    """

    kind: str = setting(NONE, "what happens", choices=(NONE, SWAP, JUMP))
    earliest_s: float = setting(0.3, "after the first rows", unit="s", ge=0.0, le=60.0)
    latest_s: float = setting(0.8, "after the first rows", unit="s", ge=0.0, le=60.0)
    jump_min_m: float = setting(0.08, "shortest way of the cube", unit="m", ge=0.01, le=0.5)
    jump_max_m: float = setting(0.3, "longest way of the cube", unit="m", ge=0.01, le=0.5)
    jump_s: float = setting(0.3, "what the cube takes for it", unit="s", ge=0.05, le=5.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.latest_s < self.earliest_s or self.jump_max_m < self.jump_min_m:
            raise ConfigError(
                "latest_s and jump_max_m must not be below earliest_s and jump_min_m, got "
                f"{self.earliest_s} to {self.latest_s} s, {self.jump_min_m} to {self.jump_max_m} m"
            )


class EpisodeEvent:
    """What happens in one episode.

    Args:
        config: what happens, and when.
        seed: decides the rest.
        goal: before the event.
        layout: where everything stands at the start.

    Attributes:
        at_ns: when it happened [ns]; None before.
        goal: in force; after a swap another one.
        place: where the cube is carried to (x, y) [m]; None unless it jumps.
    """

    def __init__(self, config: EventConfig, seed: int, goal: PickPlaceGoal, layout: Layout) -> None:
        self._config, self.goal = config, goal
        random = np.random.default_rng([seed, _STREAM])
        self._after_s = float(random.uniform(config.earliest_s, config.latest_s))
        self._next_goal = goal
        self.place: tuple[float, float] | None = None
        if config.kind == SWAP:
            self._next_goal = _other_goal(random, goal)
        elif config.kind == JUMP:
            self.place = _free_place(random, config, layout, goal.cube_colour)
        self._planned_ns: int | None = None
        self.at_ns: int | None = None

    def plan(self, now_ns: int) -> None:
        """The first rows are there: from now on it is known when it happens."""
        if self._config.kind != NONE and self._planned_ns is None:
            self._planned_ns = now_ns + round(self._after_s * NS_PER_S)

    @property
    def due_ns(self) -> int | None:
        """When it will happen [ns]; None if that is not known, or past."""
        return self._planned_ns if self.at_ns is None else None

    def happen(self, now_ns: int) -> bool:
        """Let it happen if it is due; True once, when it does."""
        if self.due_ns is None or now_ns < self.due_ns:
            return False
        self.at_ns = now_ns
        self.goal = self._next_goal
        return True

    def is_carrying(self, now_ns: int) -> bool:
        """Whether the cube is on its way, or has just arrived."""
        if self.place is None or self.at_ns is None:
            return False
        return now_ns - self.at_ns <= round(self._config.jump_s * NS_PER_S)


@dataclass(frozen=True)
class Carrier:
    """An invisible hand: pulls a cube along an arc, from rest to rest, and lets go.

    Attributes:
        start, end: (3,) centre of the cube [m].
        mass_kg: of the cube.
        duration_s: what it takes.
    """

    start: Array
    end: Array
    mass_kg: float
    duration_s: float

    def force(self, t_s: float, position: Array, velocity: Array) -> Array:
        """Return force and torque (6,) [N, N·m] at ``t_s`` after the beginning."""
        wanted, speed = self._arc(t_s)
        pull = _STIFFNESS_PER_S2 * (wanted - position) + _DAMPING_PER_S * (speed - velocity)
        pull[2] += _GRAVITY_M_S2
        return np.concatenate([self.mass_kg * pull, np.zeros(3)])

    def _arc(self, t_s: float) -> tuple[Array, Array]:
        """Return place and velocity: minimum jerk sideways, up and down again on the way."""
        u = min(max(t_s / self.duration_s, 0.0), 1.0)
        share = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
        rate = 30.0 * u**2 * (1.0 - u) ** 2 / self.duration_s
        way = self.end - self.start
        up = np.array([0.0, 0.0, _LIFT_M])
        angle = math.pi * share
        position = self.start + share * way + math.sin(angle) * up
        return position, rate * (way + math.pi * math.cos(angle) * up)


def _other_goal(random: np.random.Generator, goal: PickPlaceGoal) -> PickPlaceGoal:
    """Return another cube for the same bowl, of the goals whose words were trained together."""
    others = [
        g
        for g in SEEN_GOALS
        if g.bowl_colour == goal.bowl_colour and g.cube_colour != goal.cube_colour
    ]
    return others[int(random.integers(len(others)))]


def _free_place(
    random: np.random.Generator, config: EventConfig, layout: Layout, colour: str
) -> tuple[float, float]:
    """Return where a cube can be put so that the layout keeps its clearances.

    Where there is no such place near enough, the farthest from everything that was drawn.
    """
    gaps = LayoutConfig()
    x, y, _ = layout.cubes[colour]
    others = [
        (p[:2], gaps.cube_cube_m) for name, p in sorted(layout.cubes.items()) if name != colour
    ]
    others += [(p, gaps.cube_bowl_m) for _, p in sorted(layout.bowls.items())]
    best, most = (x, y), -math.inf
    for _ in range(_ATTEMPTS):
        point = (
            float(random.uniform(*gaps.x_range_m)),
            float(random.uniform(*gaps.y_range_m)),
        )
        if not config.jump_min_m <= math.dist(point, (x, y)) <= config.jump_max_m:
            continue
        room = min(math.dist(point, place) - gap for place, gap in others)
        if room >= 0.0:
            return point
        if room > most:
            best, most = point, room
    return best
