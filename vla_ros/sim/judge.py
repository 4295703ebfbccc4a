# SPDX-License-Identifier: Apache-2.0
"""The independent judge: decides from the true state of the simulation whether a goal is reached.

It shares nothing with a policy and never says where anything is. No MuJoCo needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_S
from vla_ros.errors import ConfigError
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.sim.scene_info import SceneInfo

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Thresholds of success.

    Attributes:
        hold_s: how long all conditions must hold without a break [s].
        max_speed_m_s, max_spin_rad_s: a cube below both is at rest.
        open_margin_m: a gripper wider than the cube by this does not hold it [m].
        far_m: a TCP farther than this from the cube's centre does not hold it [m].
    """

    hold_s: float = 0.5
    max_speed_m_s: float = 0.02
    max_spin_rad_s: float = 0.5
    open_margin_m: float = 0.008
    far_m: float = 0.08


@dataclass(frozen=True)
class JudgeVerdict:
    """What the judge says.

    Attributes:
        success: all conditions have held for ``hold_s``.
        success_since_s: how long they have held so far [s]; 0 while one is violated.
        reason: the first violated condition, or "success"; it names no position.
    """

    success: bool
    success_since_s: float
    reason: str


class Judge:
    """Judges one goal in one episode.

    Raises:
        ConfigError: if the scene has no such cube or bowl.
    """

    def __init__(
        self, info: SceneInfo, goal: PickPlaceGoal, config: JudgeConfig | None = None
    ) -> None:
        if goal.cube_colour not in info.cube_qpos or goal.bowl_colour not in info.bowl_qpos:
            raise ConfigError(f"the scene lacks an object of the goal {goal.text!r}")
        self._info = info
        self._goal = goal
        self._config = config or JudgeConfig()
        self._held_since_ns: int | None = None

    def update(self, qpos: Array, qvel: Array, tick_ns: int) -> JudgeVerdict:
        """Judge one state.

        Args:
            qpos: (nq,) positions, as MuJoCo orders them.
            qvel: (nv,) velocities, as MuJoCo orders them.
            tick_ns: time of the state [ns]; must not decrease.

        Raises:
            ShapeError: if a vector has the wrong length.
        """
        self._info.check_state(qpos, qvel)
        violated = self._first_violation(qpos, qvel)
        if violated is not None:
            self._held_since_ns = None
            return JudgeVerdict(False, 0.0, violated)
        if self._held_since_ns is None:
            self._held_since_ns = tick_ns
        held_s = (tick_ns - self._held_since_ns) / NS_PER_S
        if held_s < self._config.hold_s:
            return JudgeVerdict(False, held_s, "in the bowl, not yet long enough")
        return JudgeVerdict(True, held_s, "success")

    def _first_violation(self, qpos: Array, qvel: Array) -> str | None:
        cube, bowl = self._goal.cube_colour, self._goal.bowl_colour
        if not (np.isfinite(qpos).all() and np.isfinite(qvel).all()):
            return "the simulation state is not finite"
        if not self._is_inside(qpos, cube, bowl):
            return f"the {cube} cube is not in the {bowl} bowl"
        for other in self._info.cube_qpos:
            if other != cube and self._is_inside(qpos, other, bowl):
                return f"the {other} cube is in the {bowl} bowl too"
        if not self._is_released(qpos, cube):
            return f"the gripper still holds the {cube} cube"
        speed = self._info.cube_velocity(qvel, cube)
        if (
            np.linalg.norm(speed[:3]) > self._config.max_speed_m_s
            or np.linalg.norm(speed[3:]) > self._config.max_spin_rad_s
        ):
            return f"the {cube} cube still moves"
        return None

    def _is_inside(self, qpos: Array, cube: str, bowl: str) -> bool:
        """Say whether the cube's centre is within the inner radius and below the rim."""
        position = self._info.cube_position(qpos, cube)
        offset = position[:2] - self._info.bowl_position(qpos, bowl)
        size = self._info.bowl
        return bool(
            np.linalg.norm(offset) < size.inner_radius_m and 0.0 < position[2] < size.height_m
        )

    def _is_released(self, qpos: Array, cube: str) -> bool:
        width = self._info.gripper_width(qpos)
        if width > self._info.cube_side_m + self._config.open_margin_m:
            return True
        tcp = self._info.tcp_pose(qpos)[:3, 3]
        distance = np.linalg.norm(tcp - self._info.cube_position(qpos, cube))
        return bool(distance > self._config.far_m)
