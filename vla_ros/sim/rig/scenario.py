# SPDX-License-Identifier: Apache-2.0
"""The small worlds of the rig: what is where at every instant, and who says whether it worked.

Objects have no mass and touch nothing: what is tested is where the arm is when, and the arm, its
law and its lag are simulated in full. All positions are in the robot's base frame [m], times in
seconds since the episode began.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting

Array = NDArray[np.float64]

OPEN_M, CLOSED_M = 0.08, 0.02  # gripper rows; the judge's threshold lies between
HEIGHT_M = 0.42  # everything is grasped at this height, the arm begins a little above


class Task(enum.Enum):
    """What there is to do."""

    AROUND = "around"  # grasp a resting object behind a post: left or right of it
    CONVEYOR = "conveyor"  # grasp an object that moves and turns back once
    BELT = "belt"  # follow such an object for long, without grasping
    JUMP = "jump"  # the object is put elsewhere once
    SWAP = "swap"  # two objects, the instruction changes once
    TRACK = "track"  # follow a moving point
    WIPE = "wipe"  # press on a level surface and move along it


FOLLOWING = (Task.BELT, Task.TRACK, Task.WIPE)  # nothing to grasp
SURFACE_Z_M = 0.40
WIPES_FROM_S = 3.0  # it is touched by then


@dataclass(frozen=True, kw_only=True)
class ScenarioConfig:
    """How hard the world is; the defaults were chosen with synchronous execution without delay."""

    task: str = setting("around", "what there is to do", choices=tuple(t.value for t in Task))
    tolerance_m: float = setting(
        0.008, "largest distance to the object when the gripper closes", unit="m", ge=1e-4, le=0.1
    )
    yaw_tolerance_rad: float = setting(
        0.1, "largest angle to the object then", unit="rad", ge=1e-3, le=1.0
    )
    speed_tolerance_m_s: float = setting(
        0.05, "largest speed relative to the object then", unit="m/s", ge=1e-3, le=1.0
    )
    limit_s: float = setting(4.0, "time for the task", unit="s", ge=0.5, le=60.0)
    belt_low_m_s: float = setting(0.05, "slowest belt", unit="m/s", ge=0.0, le=0.5)
    belt_high_m_s: float = setting(0.10, "fastest belt", unit="m/s", ge=0.0, le=0.5)
    post_radius_m: float = setting(
        0.055, "post and half of the hand: closer than this is a collision", unit="m", ge=0, le=0.2
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """What there is to know about an object at one instant: (3,) position, velocity; yaw [rad]."""

    position: Array
    velocity: Array
    yaw_rad: float


class Scenario:
    """One episode's world; everything follows from the seed."""

    def __init__(self, config: ScenarioConfig, seed: int) -> None:
        self.config = config
        self.task = Task(config.task)
        random = np.random.default_rng([seed, 0x776F726C])
        draw = random.uniform
        self.event_s = float(draw(0.7, 1.3))
        self._yaw = float(draw(-0.4, 0.4))
        self._base = np.array([draw(0.56, 0.62), draw(-0.06, 0.06), HEIGHT_M])
        self._jump = _turned(draw(0.08, 0.12), draw(-np.pi, np.pi))
        side = 1.0 if random.random() < 0.5 else -1.0
        speed = float(draw(config.belt_low_m_s, config.belt_high_m_s))
        self._velocity = np.array([0.0, side * speed, 0.0])
        self._belt_start = np.array([draw(0.48, 0.54), -side * draw(0.08, 0.14), HEIGHT_M])
        self._turn_s = float(draw(1.0, 2.5))
        self._phases = draw(0.0, 2.0 * np.pi, 3)
        if self.task is Task.BELT:
            self._turn_s = float(draw(9.0, 11.0))
            self._belt_start = np.array([0.40, -0.5 * side * speed * self._turn_s, HEIGHT_M])
        self.post = np.array([draw(0.44, 0.46), draw(-0.01, 0.01)])
        self._others = np.array([0.0, 0.16 * side, 0.0])

    @property
    def has_post(self) -> bool:
        """Whether there is a post to go around."""
        return self.task is Task.AROUND

    @property
    def has_event(self) -> bool:
        """Whether something changes at ``event_s``."""
        return self.task in (Task.JUMP, Task.SWAP)

    def instruction_at(self, t_s: float) -> int:
        """Return the number of the instruction in force, from 1 on."""
        return 2 if self.task is Task.SWAP and t_s >= self.event_s else 1

    def target_at(self, t_s: float, instruction: int = 1) -> TargetView:
        """Return the object that an instruction means, at an instant."""
        if self.task in (Task.CONVEYOR, Task.BELT):
            return self._on_belt(t_s)
        if self.task is Task.TRACK:
            return self._tracked(t_s)
        if self.task is Task.WIPE:
            return self._wiped(t_s)
        position = self._base
        if self.task is Task.JUMP and t_s >= self.event_s:
            position = position + self._jump
        if self.task is Task.SWAP:
            position = position + (0.5 if instruction == 1 else -0.5) * self._others
        return TargetView(position=position, velocity=np.zeros(3), yaw_rad=self._yaw)

    def _on_belt(self, t_s: float) -> TargetView:
        turned_s = t_s - self._turn_s
        if turned_s < 0.0:
            position, velocity = self._belt_start + self._velocity * t_s, self._velocity
        else:
            position = self._belt_start + self._velocity * (self._turn_s - turned_s)
            velocity = -self._velocity
        return TargetView(position=position, velocity=velocity, yaw_rad=self._yaw)

    def _wiped(self, t_s: float) -> TargetView:
        """Down to the surface from 3 cm above it until it is time, then along it."""
        down = min(max((t_s - 1.2) / (WIPES_FROM_S - 0.3 - 1.2), 0.0), 1.0)
        along = 0.06 * max(t_s - WIPES_FROM_S, 0.0)
        side = np.sign(self._velocity[1])
        place = np.array([0.42, -0.12 * side, SURFACE_Z_M])
        position = place + np.array([0.0, side * along, 0.03 * (1.0 - down)])
        speed = 0.06 * side if t_s >= WIPES_FROM_S else 0.0
        return TargetView(position=position, velocity=np.array([0.0, speed, 0.0]), yaw_rad=0.0)

    def _tracked(self, t_s: float) -> TargetView:
        size = np.array([0.06, 0.10, 0.05])
        rate = 2.0 * np.pi * np.array([0.31, 0.23, 0.17])
        angle = rate * t_s + self._phases
        centre = np.array([0.50, 0.0, 0.47])
        return TargetView(
            position=centre + size * np.sin(angle),
            velocity=size * rate * np.cos(angle),
            yaw_rad=0.3 * float(np.sin(angle[1])),
        )


@dataclass
class Verdict:
    """How an episode ended."""

    success: bool = False
    reason: str = ""
    at_s: float = float("nan")
    grasp_error_m: float = float("nan")
    grasped: int = 0  # instruction whose object was grasped; 0: none

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.reason != ""


class Judge:
    """Sees what truly happened, tick by tick; knows nothing of policies or stamps."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.verdict = Verdict()

    def update(
        self, t_s: Array, position: Array, yaw: Array, velocity: Array, gripper_m: Array
    ) -> Verdict:
        """Judge some ticks: times (n,), ends (n, 3), yaws (n,), velocities (n, 3), widths (n,)."""
        verdict, scenario = self.verdict, self._scenario
        if verdict.is_final or not len(t_s):
            return verdict
        hit = self._first(self._touches_post(position))
        closed = self._first(gripper_m < 0.5 * (OPEN_M + CLOSED_M))
        if hit is not None and (closed is None or hit <= closed):
            self.verdict = Verdict(reason="touched the post", at_s=float(t_s[hit]))
        elif closed is not None and scenario.task not in FOLLOWING:
            i = closed
            self.verdict = self._grasp(float(t_s[i]), position[i], float(yaw[i]), velocity[i])
        elif t_s[-1] >= scenario.config.limit_s:
            done = scenario.task in FOLLOWING
            reason = "end of the track" if done else "time is up"
            self.verdict = Verdict(success=done, reason=reason, at_s=float(t_s[-1]))
        return self.verdict

    def _touches_post(self, position: Array) -> NDArray[np.bool_]:
        if not self._scenario.has_post:
            return np.zeros(len(position), dtype=bool)
        away = np.sqrt(((position[:, :2] - self._scenario.post) ** 2).sum(axis=1))
        touching: NDArray[np.bool_] = away < self._scenario.config.post_radius_m
        return touching

    def _grasp(self, t_s: float, position: Array, yaw_rad: float, velocity: Array) -> Verdict:
        scenario, c = self._scenario, self._scenario.config
        wanted = scenario.instruction_at(t_s)
        numbers = (1, 2) if scenario.task is Task.SWAP else (1,)
        views = {n: scenario.target_at(t_s, n) for n in numbers}
        nearest = min(numbers, key=lambda n: float(np.linalg.norm(position - views[n].position)))
        view = views[nearest]
        error_m = float(np.linalg.norm(position - view.position))
        slip_m_s = float(np.linalg.norm(velocity - view.velocity))
        reason = "grasped"
        if error_m > c.tolerance_m:
            reason, nearest = "missed the object", 0
        elif abs(yaw_rad - view.yaw_rad) > c.yaw_tolerance_rad:
            reason, nearest = "turned the wrong way", 0
        elif slip_m_s > c.speed_tolerance_m_s:
            reason, nearest = "too fast", 0
        elif nearest != wanted:
            reason = "wrong object"
        return Verdict(
            success=reason == "grasped",
            reason=reason,
            at_s=t_s,
            grasp_error_m=error_m,
            grasped=nearest,
        )

    @staticmethod
    def _first(mask: NDArray[np.bool_]) -> int | None:
        return int(np.argmax(mask)) if mask.any() else None


def _turned(length_m: float, angle_rad: float) -> Array:
    return length_m * np.array([np.cos(angle_rad), np.sin(angle_rad), 0.0])
