# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: what it saw when, and the rows it would like to be executed.

It knows the world only as it was at capture time, with noise; it is right about speeds, so that
what goes wrong later is due to what it could not know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.config_fields import check_fields, setting
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.sim.rig.path import along, arrival_s, distance_at, length_of
from vla_ros.sim.rig.scenario import CLOSED_M, FOLLOWING, OPEN_M, SURFACE_Z_M, Scenario, Task
from vla_ros.types import ActionChunk, RobotState

Array = NDArray[np.float64]

# Hand straight down: the fingers close along the base's y axis at yaw 0.
DOWN_QUAT_XYZW = np.array([1.0, 0.0, 0.0, 0.0])
# So close and so slow, the expert closes the gripper at once.
_THERE_M, _AT_REST_M_S = 0.003, 0.04
# It passes a post at this distance, and takes the straight way when that is clear by so much.
_AROUND_M, _CLEAR_M = 0.10, 0.075
_BEFORE_S = 1000.0
_FAR_M = 0.05  # only from here does a wiping plan begin where the arm is
_TOUCHED_M = SURFACE_Z_M + 0.002  # rows this low press
_CATCH_UP_S = 0.3  # how fast it joins a moving point


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """How well it sees and how it moves."""

    horizon: int = setting(16, "rows of a chunk", ge=2, le=64)
    dt_s: float = setting(0.033, "time between rows", unit="s", ge=0.005, le=0.5)
    top_m_s: float = setting(0.25, "fastest motion", unit="m/s", ge=0.01, le=2.0)
    accel_m_s2: float = setting(1.2, "acceleration", unit="m/s²", ge=0.05, le=20.0)
    seen_sigma_m: float = setting(
        0.0015, "error of all frames of an episode, each axis", unit="m", ge=0.0, le=0.1
    )
    frame_sigma_m: float = setting(
        0.0004, "what a single frame adds to it", unit="m", ge=0.0, le=0.1
    )
    seen_velocity_sigma_m_s: float = setting(
        0.004, "error of one frame's velocity, each axis", unit="m/s", ge=0.0, le=0.5
    )
    seen_yaw_sigma_rad: float = setting(0.01, "error of one frame", unit="rad", ge=0.0, le=0.5)
    lead_s: float = setting(
        0.009, "rows lead the motion by the arm's lag", unit="s", ge=0.0, le=0.5
    )
    press_m: float = setting(
        0.0, "how far below the surface a wiping row lies", unit="m", ge=0.0, le=0.1
    )
    dwell_s: float = setting(0.1, "rest at the object before closing", unit="s", ge=0.0, le=2.0)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def dt_ns(self) -> int:
        """Time between rows [ns]."""
        return round(self.dt_s * 1e9)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one frame told: of the object that the instruction means. Times since the start [s]."""

    capture_s: float
    instruction: int
    position: Array
    velocity: Array
    yaw_rad: float

    def position_at(self, t_s: float) -> Array:
        """Return where the object is if it goes on as it was seen (3,) [m]."""
        return self.position + self.velocity * (t_s - self.capture_s)

    def taken_at(self, capture_s: float) -> Sight:
        """Return the same sight with another capture time: what a missing stamp makes of it."""
        return replace(self, capture_s=capture_s)


class Expert:
    """Sees frames of one episode and plans.

    What a frame shows depends on the seed and its capture time alone, so that two strategies that
    look at the same instant are told the same.
    """

    def __init__(self, scenario: Scenario, config: ExpertConfig, seed: int) -> None:
        self.config = config
        self._scenario = scenario
        self._seed = seed
        bias = np.random.default_rng([seed, 0x62696173]).standard_normal(3)
        self._bias_m = config.seen_sigma_m * bias

    def look(self, capture_s: float, instruction: int, blur: float = 1.0) -> Sight:
        """Return what the frame taken at ``capture_s`` shows; a small image is blurred."""
        c = self.config
        moment = round((capture_s + _BEFORE_S) * 1e6)  # a first frame may be older than the episode
        random = np.random.default_rng([self._seed, moment, instruction])
        truth = self._scenario.target_at(capture_s, instruction)
        error = random.standard_normal(7)
        return Sight(
            capture_s=capture_s,
            instruction=instruction,
            position=truth.position + self._bias_m + blur * c.frame_sigma_m * error[:3],
            velocity=truth.velocity
            + (blur * c.seen_velocity_sigma_m_s * error[3:6] if truth.velocity.any() else 0.0),
            yaw_rad=truth.yaw_rad + blur * c.seen_yaw_sigma_rad * float(error[6]),
        )

    def plan(
        self, sight: Sight, state: RobotState, target0_ns: int, start_s: float
    ) -> tuple[list[ActionChunk], Array]:
        """Return the rows of each way to go and the odds (K,) of each.

        Row 0 is for ``start_s`` of the episode, ``target0_ns`` of the robot's clock; ``state`` is
        where the arm is then.
        """
        c = self.config
        times_s = c.dt_s * np.arange(c.horizon, dtype=np.float64)
        position, velocity = state.T_base_ee[:3, 3], state.twist_base[:3]
        if self._scenario.task in FOLLOWING:
            return [self._follow(sight, position, times_s, start_s, target0_ns)], np.ones(1)
        plans, lengths = [], []
        for way in self._ways(position, sight.position_at(start_s)):
            rows, length_m = self._reach(way, sight, state, velocity, times_s, start_s, target0_ns)
            plans.append(rows)
            lengths.append(length_m)
        odds = np.exp((min(lengths) - np.array(lengths)) / 0.03)
        return plans, odds / odds.sum()

    def _ways(self, position: Array, goal: Array) -> list[list[Array]]:
        """Return the points to pass: none where the straight way is clear, else left and right."""
        post = self._scenario.post
        if not self._scenario.has_post or _distance_to_line(post, position, goal) > _CLEAR_M:
            return [[]]
        return [[np.array([post[0], post[1] + s * _AROUND_M, position[2]])] for s in (1.0, -1.0)]

    def _reach(
        self,
        way: list[Array],
        sight: Sight,
        state: RobotState,
        velocity: Array,
        times_s: Array,
        start_s: float,
        target0_ns: int,
    ) -> tuple[ActionChunk, float]:
        c = self.config
        position = state.T_base_ee[:3, 3]
        goal = sight.position_at(start_s)
        first = way[0] if way else goal
        away = first - position
        distance = float(np.linalg.norm(away))
        speed = float(velocity @ away) / distance if distance > 1e-6 else 0.0
        for _ in range(3):  # where the object will be when the arm is there
            points = np.stack([position, *way, goal])
            length_m = length_of(points)
            total_s = arrival_s(length_m, speed, c.top_m_s, c.accel_m_s2)
            goal = sight.position_at(start_s + total_s)
        # As demonstrations do: what is commanded leads what is measured by the lag of the arm.
        ahead_s = times_s + c.lead_s
        travelled = distance_at(ahead_s, length_m, speed, c.top_m_s, c.accel_m_s2)
        positions = along(points, travelled)
        positions += np.maximum(ahead_s - total_s, 0.0)[:, None] * sight.velocity
        closes_s = self._close_s(sight, state, velocity, total_s, start_s)
        gripper_m = np.where(times_s >= closes_s, CLOSED_M, OPEN_M)
        turns = self._turn(state, sight.yaw_rad, times_s, total_s)
        return self._chunk(target0_ns, positions, turns, gripper_m), length_m

    def _close_s(
        self, sight: Sight, state: RobotState, velocity: Array, total_s: float, start_s: float
    ) -> float:
        """Return when to close, from the plan's start on: soon if already there."""
        if state.gripper_target_m < 0.5 * (OPEN_M + CLOSED_M):
            return 0.0
        away_m = float(np.linalg.norm(state.T_base_ee[:3, 3] - sight.position_at(start_s)))
        slip_m_s = float(np.linalg.norm(velocity - sight.velocity))
        if away_m < _THERE_M and slip_m_s < _AT_REST_M_S:
            return 0.0
        return total_s + self.config.dwell_s

    def _follow(
        self, sight: Sight, position: Array, times_s: Array, start_s: float, target0_ns: int
    ) -> ActionChunk:
        """Return rows that meet the moving point within a second and stay with it."""
        c = self.config
        if self._scenario.task is Task.WIPE:
            return self._press(position, times_s, start_s + c.lead_s, target0_ns)
        ahead = np.array([sight.position_at(start_s + t + c.lead_s) for t in times_s])
        left = np.exp(-times_s / _CATCH_UP_S)[:, None]
        positions = ahead + left * (position - sight.position_at(start_s))
        turns = np.zeros((len(times_s), 3))
        turns[:, 2] = sight.yaw_rad
        return self._chunk(target0_ns, positions, turns, np.full(len(times_s), OPEN_M))

    def _press(
        self, position: Array, times_s: Array, start_s: float, target0_ns: int
    ) -> ActionChunk:
        """Return rows along the known path, on a surface whose height is seen with an error."""
        n = len(times_s)
        rows = np.array([self._scenario.target_at(start_s + float(t)).position for t in times_s])
        away = position - rows[0]
        if np.linalg.norm(away) > _FAR_M:
            rows += np.exp(-times_s / _CATCH_UP_S)[:, None] * away
        pressing = rows[:, 2] < _TOUCHED_M
        rows[:, 2] += self._bias_m[2] - self.config.press_m * pressing
        return self._chunk(target0_ns, rows, np.zeros((n, 3)), np.full(n, OPEN_M))

    def _chunk(
        self, target0_ns: int, positions: Array, turns: Array, gripper_m: Array
    ) -> ActionChunk:
        return ActionChunk(
            target0_ns=target0_ns,
            dt_ns=self.config.dt_ns,
            positions=positions,
            quats_xyzw=rotations.multiply(rotations.exp(turns), DOWN_QUAT_XYZW),
            gripper_width_m=gripper_m,
        )

    @staticmethod
    def _turn(state: RobotState, yaw_rad: float, times_s: Array, total_s: float) -> Array:
        """Return rotation vectors (H, 3) from where the hand is to the object's yaw."""
        now = rotation_of(state.T_base_ee[:3, :3])
        share = np.clip(times_s / max(total_s, 0.2), 0.0, 1.0)[:, None]
        turn: Array = now + share * (np.array([0.0, 0.0, yaw_rad]) - now)
        return turn


def rotation_of(R: Array) -> Array:
    """Return the rotation vector (3,) of a hand (3, 3) from straight down."""
    return rotations.difference(DOWN_QUAT_XYZW, matrix_to_quat_xyzw(R))


def _distance_to_line(point: Array, start: Array, end: Array) -> float:
    """Return the distance (in the plane) of a point (2,) from the way between two others."""
    way = end[:2] - start[:2]
    along_way = float((point - start[:2]) @ way) / max(float(way @ way), 1e-12)
    nearest = start[:2] + min(max(along_way, 0.0), 1.0) * way
    return float(np.linalg.norm(point - nearest))
