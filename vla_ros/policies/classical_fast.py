# SPDX-License-Identifier: Apache-2.0
"""The classical fast policy: pick a cube, put it into a bowl, from latent and fresh robot state.

It keeps almost no memory: what to do follows from where the arm and the fingers are and from what
the latent believes, so a restarted process goes on where the old one stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import PolicyError
from vla_ros.geometry import rotation_about_z
from vla_ros.policies.base import Tensors
from vla_ros.policies.motion import MotionLimits, plan_rows
from vla_ros.types import ActionChunk, Latent, Observation, RobotState

Array = NDArray[np.float64]

# Fingers that have not moved by more than this for ``still_s`` are still.
_STILL_M = 0.0005

_POINTING_DOWN = np.diag([1.0, -1.0, -1.0])
_LATENT_SHAPES = {
    "pick_position": (3,),
    "pick_yaw": (1,),
    "pick_confidence": (1,),
    "pick_seen_ns": (1,),
    "place_position": (3,),
    "place_confidence": (1,),
    "placed": (1,),
}


@dataclass(frozen=True, kw_only=True)
class PickPlaceConfig:
    """Heights, tolerances and speeds of the classical fast policy. Heights are above the table."""

    hover_m: float = setting(
        0.14, "height above the table between pick and place", unit="m", ge=0.08, le=0.5
    )
    release_m: float = setting(
        0.085, "height of the TCP when the cube is let go", unit="m", ge=0.03, le=0.3
    )
    align_m: float = setting(
        0.008, "sideways error below which the hand goes down", unit="m", ge=0.001, le=0.05
    )
    align_rad: float = setting(
        0.12, "yaw error below which the hand goes down", unit="rad", ge=0.01, le=0.5
    )
    settle_m: float = setting(
        0.006, "distance to a waypoint that counts as there", unit="m", ge=0.001, le=0.05
    )
    min_confidence: float = setting(0.5, "least confidence to act on", ge=0.0, le=1.0)
    open_m: float = setting(0.08, "opening of the open gripper", unit="m", ge=0.05, le=0.1)
    closed_m: float = setting(0.01, "opening asked for to grasp", unit="m", ge=0.0, le=0.04)
    home_x_m: float = setting(0.307, "where to wait, x in base", unit="m", ge=0.2, le=0.8)
    home_z_m: float = setting(0.45, "where to wait, height", unit="m", ge=0.1, le=0.8)
    held_min_m: float = setting(
        0.025, "least opening that means something is held", unit="m", ge=0.0, le=0.08
    )
    held_max_m: float = setting(
        0.055, "largest opening that means something is held", unit="m", ge=0.0, le=0.08
    )
    still_s: float = setting(
        0.1, "time without motion after which the fingers are still", unit="s", ge=0.0, le=1.0
    )
    limits: MotionLimits = field(default_factory=MotionLimits)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Goal:
    """Where to go next and what the fingers do meanwhile.

    Attributes:
        position, R: pose (3,) [m] and (3, 3) in base to come to rest at.
        gripper_m: opening of the gripper [m].
    """

    phase: str
    position: Array
    R: Array
    gripper_m: float
    done: bool = False


class ClassicalFastPolicy:
    """Turns the newest usable latent and the robot state into a chunk of rows.

    Source: own; the reactive pick-and-place automaton of classical manipulation.
    """

    name = "classical"
    chunk_rows = 16
    chunk_dt_ns = 33_333_333

    def __init__(self, config: PickPlaceConfig | None = None) -> None:
        self._config = config or PickPlaceConfig()
        self.reset()

    def reset(self) -> None:
        """Forget when the gripper opened last and whether the fingers move."""
        self._opened_ns = 0
        self._was_closed = False
        self._width_m = math.nan
        self._width_since_ns = 0

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return 16 rows, 30 per second, beginning at the reference now in force.

        Raises:
            PolicyError: if the latent lacks a tensor or one has the wrong shape.
        """
        goal = self.decide(latent.tensors, latent.stamp.capture_oldest_ns, observation.state)
        return self.rows_to(goal, observation.state)

    def decide(self, tensors: Tensors, capture_ns: int, state: RobotState) -> Goal:
        """Return where to go, by a latent whose oldest image was taken at ``capture_ns``.

        Raises:
            PolicyError: if the latent lacks a tensor or one has the wrong shape.
        """
        checked = {name: _tensor(tensors, name, shape) for name, shape in _LATENT_SHAPES.items()}
        self._remember_gripper(state)
        return self._choose(checked, state, capture_ns)

    def rows_to(self, goal: Goal, state: RobotState) -> ActionChunk:
        """Return the rows from the reference now in force to a goal."""
        positions, quats = plan_rows(
            state.T_base_ref,
            state.twist_ref_base,
            goal.position,
            goal.R,
            self.chunk_rows,
            1e-9 * self.chunk_dt_ns,
            self._config.limits,
        )
        return ActionChunk(
            target0_ns=state.tick_ns,
            dt_ns=self.chunk_dt_ns,
            positions=positions,
            quats_xyzw=quats,
            gripper_width_m=np.full(self.chunk_rows, goal.gripper_m),
            phase=goal.phase,
            done=goal.done,
        )

    def _remember_gripper(self, state: RobotState) -> None:
        moved_m = abs(state.gripper_width_m - self._width_m)
        if not moved_m < _STILL_M:
            self._width_m, self._width_since_ns = state.gripper_width_m, state.tick_ns
        closed = state.gripper_target_m < 0.5 * self._config.open_m
        if self._was_closed and not closed:
            self._opened_ns = state.tick_ns
        self._was_closed = closed

    def _choose(self, t: dict[str, Array], state: RobotState, capture_ns: int) -> Goal:
        c = self._config
        if self._was_closed:
            # Lifting while the fingers still close would fling the cube away.
            is_still = state.tick_ns - self._width_since_ns >= int(c.still_s * NS_PER_S)
            if state.gripper_width_m > c.held_max_m or not is_still:
                return self._stay("close", state, c.closed_m)
            if state.gripper_width_m < c.held_min_m:
                return self._stay("missed", state, c.open_m)
            return self._carry(t, state)
        if state.gripper_width_m < c.held_max_m + 0.01:
            return self._stay("open", state, c.open_m)
        if float(t["placed"][0]) > 0.5 and capture_ns > self._opened_ns:
            return self._retreat("done", state, done=True)
        # What was seen before the fingers opened shows the cube where it no longer is.
        known = float(t["pick_confidence"][0]) >= c.min_confidence
        if not known or int(t["pick_seen_ns"][0]) <= self._opened_ns:
            return self._retreat("look", state)
        return self._pick(t, state)

    def _pick(self, t: dict[str, Array], state: RobotState) -> Goal:
        c = self._config
        cube = np.asarray(t["pick_position"], dtype=float)
        R = _grasp_rotation(float(t["pick_yaw"][0]), state.T_base_ref[:3, :3])
        sideways = float(np.linalg.norm(cube[:2] - state.T_base_ee[:2, 3]))
        turn = _yaw_between(state.T_base_ee[:3, :3], R)
        if sideways > c.align_m or turn > c.align_rad:
            above = self._above(cube, state, c.hover_m)
            return Goal("reach", above, R, c.open_m)
        height = float(state.T_base_ee[2, 3]) - float(cube[2])
        if height < c.settle_m and np.linalg.norm(state.twist_base[:3]) < 0.05:
            return Goal("close", cube, R, c.closed_m)
        return Goal("descend", cube, R, c.open_m)

    def _carry(self, t: dict[str, Array], state: RobotState) -> Goal:
        c = self._config
        R = _upright(state.T_base_ref[:3, :3])
        if float(t["place_confidence"][0]) < c.min_confidence:
            lifted = state.T_base_ref[:3, 3].copy()
            lifted[2] = c.hover_m + 0.05
            return Goal("look", lifted, R, c.closed_m)
        bowl = np.asarray(t["place_position"], dtype=float)
        sideways = float(np.linalg.norm(bowl[:2] - state.T_base_ee[:2, 3]))
        if sideways > 2.0 * c.align_m:
            return Goal("carry", self._above(bowl, state, c.hover_m), R, c.closed_m)
        target = np.array([bowl[0], bowl[1], c.release_m])
        if float(state.T_base_ee[2, 3]) - c.release_m < c.settle_m:
            return Goal("release", target, R, c.open_m)
        return Goal("lower", target, R, c.closed_m)

    def _above(self, point: Array, state: RobotState, height_m: float) -> Array:
        """Waypoint over ``point``: first up, then across, to sweep nothing off the table."""
        here = state.T_base_ee[:3, 3]
        sideways = float(np.linalg.norm(point[:2] - here[:2]))
        if sideways > 0.03 and here[2] < height_m - 0.025:
            return np.array([here[0], here[1], height_m + 0.02])
        return np.array([point[0], point[1], height_m])

    def _retreat(self, phase: str, state: RobotState, done: bool = False) -> Goal:
        c = self._config
        home = np.array([c.home_x_m, 0.0, c.home_z_m])
        target = self._above(home, state, c.hover_m)
        if target[2] <= c.hover_m:
            target = home
        away = float(state.T_base_ee[2, 3]) > c.hover_m - 0.03
        return Goal(phase, target, _upright(state.T_base_ref[:3, :3]), c.open_m, done and away)

    def _stay(self, phase: str, state: RobotState, gripper_m: float) -> Goal:
        T = state.T_base_ref
        return Goal(phase, T[:3, 3], T[:3, :3], gripper_m)


def _tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> Array:
    value = tensors.get(name)
    if value is None or value.shape != shape:
        got = "nothing" if value is None else f"shape {value.shape}"
        raise PolicyError(f"latent tensor {name!r} must have shape {shape}, got {got}")
    return np.asarray(value)


def _yaw(R: Array) -> float:
    return math.atan2(R[1, 0], R[0, 0])


def _upright(R: Array) -> Array:
    """Return the rotation with the same yaw that points straight down."""
    return np.asarray(rotation_about_z(_yaw(R)) @ _POINTING_DOWN)


def _grasp_rotation(cube_yaw: float, R_now: Array) -> Array:
    """Return the downward rotation along the cube's faces that is nearest to the home yaw.

    A cube looks the same every quarter turn. Nearest to zero, not to the yaw now, because the wrist
    must not wind up over many grasps; within 10 degrees of a tie the yaw now decides.
    """
    quarter = math.pi / 2
    yaw = (cube_yaw + quarter / 2) % quarter - quarter / 2
    other = yaw - math.copysign(quarter, yaw)
    if abs(abs(other) - abs(yaw)) < math.radians(10):
        now = _yaw(R_now)
        yaw = min((yaw, other), key=lambda candidate: abs(candidate - now))
    return np.asarray(rotation_about_z(yaw) @ _POINTING_DOWN)


def _yaw_between(R_a: Array, R_b: Array) -> float:
    difference = _yaw(R_b) - _yaw(R_a)
    return abs((difference + math.pi) % (2 * math.pi) - math.pi)
