# SPDX-License-Identifier: Apache-2.0
"""A peg into a hole that is not where it is believed to be: three controllers."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.control.search import Insertion, InsertionConfig, Phase, Spiral
from vla_ros.errors import ConfigError
from vla_ros.sim.contact.arm import ContactArm, Sensed, friction_model, solve_pose, tool_arm
from vla_ros.sim.contact.peg_task import PegConfig, PegJudge, PegResult, draw_trial
from vla_ros.sim.contact.scene import WORK_BODY, PegScene, build_peg_scene
from vla_ros.sim.plant import FR3_TORQUE_LIMIT_NM

Array = NDArray[np.float64]

DOWN = np.diag([1.0, -1.0, -1.0])
CONTROLLERS = ("search", "no_search", "stiff")


class Controller(Protocol):
    """Fills the law's reference from what is sensed, once per tick."""

    def law_config(self, q: Array) -> core.LawConfig:
        """Return the gains to begin with."""

    def update(self, arm: ContactArm, sensed: Sensed) -> None:
        """Set reference and gains of ``arm``."""

    def moving(self) -> bool:
        """Whether the reference still moves by itself."""


class CompliantController:
    """Compliance, and a search if the insertion has one."""

    def __init__(self, config: PegConfig, believed: Array, scene: PegScene, search: bool) -> None:
        c = config.insertion
        insertion = InsertionConfig(
            contact_n=c.contact_n,
            approach_n=c.approach_n,
            search_n=c.search_n,
            insert_n=c.insert_n,
            drop_m=c.drop_m,
            filter_s=c.filter_s,
            search=search,
        )
        self._config, self._scene, self._believed = config, scene, believed
        self._insertion = Insertion(believed, insertion, Spiral(config.spiral))
        self._rotation = believed[:3, :3] @ DOWN
        self._q = np.zeros(0)
        self._phase = Phase.APPROACH

    def law_config(self, q: Array) -> core.LawConfig:
        """Nothing holds the tip along its axis but damping."""
        self._q = q
        c = self._config
        inserting = self._phase is Phase.INSERT
        lateral = c.insert_lateral if inserting else c.search_lateral
        rot = c.insert_rot if inserting else c.search_rot
        law = _base_law(c, self._scene, q)
        law.axes = core.TaskAxes.END_EFFECTOR
        gains = law.gains
        gains.stiffness = np.diag([lateral, lateral, 0.0, rot, rot, c.search_rot])
        clip = c.force_limit_n / math.sqrt(2.0) / lateral
        gains.error_clip = np.array([clip, clip, 0.01, 0.2, 0.2, 0.2])
        gains.extra_damping = np.array([0.0, 0.0, c.axial_damping, 0.0, 0.0, 0.0])
        law.gains = gains
        return law

    def update(self, arm: ContactArm, sensed: Sensed) -> None:
        """Follow the insertion; other gains with another phase."""
        command = self._insertion.update(arm.time_s, sensed.position, sensed.force)
        arm.target(command.position, self._rotation)
        arm.law.twist[:3] = command.velocity
        arm.law.wrench[:3] = -command.push_n * self._believed[:3, 2]
        if command.phase is not self._phase:
            self._phase = command.phase
            arm.law.apply(self.law_config(self._q))

    def moving(self) -> bool:
        """Only the search moves the reference."""
        return self._phase is not Phase.INSERT


class StiffController:
    """A position controller: straight down the believed axis, its force limited by its errors."""

    def __init__(self, config: PegConfig, believed: Array, scene: PegScene) -> None:
        self._config, self._scene, self._believed = config, scene, believed
        self._rotation = believed[:3, :3] @ DOWN
        self._height = config.start_m

    def law_config(self, q: Array) -> core.LawConfig:
        """Return stiff gains whose springs cannot exceed the force limit."""
        c = self._config
        law = _base_law(c, self._scene, q)
        law.axes = core.TaskAxes.END_EFFECTOR
        gains = law.gains
        gains.stiffness = np.diag([c.stiff_trans] * 3 + [c.stiff_rot] * 3)
        clip = (c.force_limit_n - c.stiff_reserve_n) / c.stiff_trans
        gains.error_clip = np.array([clip / math.sqrt(2.0)] * 2 + [clip] + [0.2] * 3)
        law.gains = gains
        return law

    def update(self, arm: ContactArm, sensed: Sensed) -> None:
        """Sink at constant speed to the depth wanted and a little more."""
        c = self._config
        end = -(c.depth_m + 0.005)
        self._height = max(end, c.start_m - c.stiff_speed_m_s * arm.time_s)
        axis = self._believed[:3, 2]
        arm.target(self._believed[:3, 3] + self._height * axis, self._rotation)
        arm.law.twist[:3] = -c.stiff_speed_m_s * axis if self._height > end else 0.0

    def moving(self) -> bool:
        """Whether the end of the approach is still ahead."""
        return self._height > -(self._config.depth_m + 0.005)


class PegRunner:
    """Runs trials one after the other; deterministic by seed."""

    def __init__(self, config: PegConfig | None = None, scene: PegScene | None = None) -> None:
        self.config = config or PegConfig()
        self.scene = scene or PegScene()
        self.model = build_peg_scene(self.scene)
        self._description = tool_arm(self.scene, self.scene.tool_length_m / 2)

    def run(self, seed: int, controller: str) -> tuple[PegResult, ContactArm]:
        """Run one trial.

        Raises:
            ConfigError: if there is no such controller.
        """
        c = self.config
        trial = draw_trial(seed, c)
        self.model.body_pos[self.model.body(WORK_BODY).id] = trial.true[:3, 3]
        brain = self._controller(controller, trial.believed)
        start = trial.believed[:3, 3] + c.start_m * trial.believed[:3, 2]
        q = solve_pose(self.model, start, trial.believed[:3, :3] @ DOWN)
        arm = ContactArm(
            self.model, self._description, brain.law_config(q), self.scene.tool_mass_kg, seed
        )
        arm.start(q)
        judge = PegJudge(c, self.scene, trial)
        while not judge.decided:
            brain.update(arm, arm.sense())
            truth = arm.step()
            judge.see(arm.time_s, arm.tip_position(), truth.force, truth.penetration_m)
            if not brain.moving():
                judge.check_still(arm.time_s)
        return judge.result(seed, trial), arm

    def _controller(self, name: str, believed: Array) -> Controller:
        if name == "stiff":
            return StiffController(self.config, believed, self.scene)
        if name not in CONTROLLERS:
            raise ConfigError(f"controller must be one of {', '.join(CONTROLLERS)}, got {name!r}")
        return CompliantController(self.config, believed, self.scene, name == "search")


def _base_law(config: PegConfig, scene: PegScene, q: Array) -> core.LawConfig:
    law = core.LawConfig.for_joints(len(q))
    law.posture = list(q)
    gains = law.gains
    gains.nullspace_stiffness = [10.0] * len(q)
    law.gains = gains
    law.torque_limit = list(FR3_TORQUE_LIMIT_NM)
    law.torque_rate_limit = [1000.0] * len(q)
    law.friction = friction_model(scene.friction_scale, config.friction_share)
    return law
