# SPDX-License-Identifier: Apache-2.0
"""A peg into a hole that is not where it is believed to be: three controllers, and the judge."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.control.search import Insertion, InsertionConfig, Phase, Spiral, SpiralConfig
from vla_ros.errors import ConfigError
from vla_ros.geometry import make_pose, quat_xyzw_to_matrix, rotation_vector_to_quat
from vla_ros.sim.contact.arm import ContactArm, Sensed, friction_model, solve_pose, tool_arm
from vla_ros.sim.contact.scene import WORK_BODY, PegScene, build_peg_scene
from vla_ros.sim.plant import FR3_TORQUE_LIMIT_NM

Array = NDArray[np.float64]

DOWN = np.diag([1.0, -1.0, -1.0])
CONTROLLERS = ("search", "no_search", "stiff")
FORCE_WINDOW = 10  # ticks of 1 ms over which a force is averaged before it is judged


@dataclass(frozen=True, kw_only=True)
class PegConfig:
    """The task, and the gains of the two laws.

    Attributes:
        position_error_m, tilt_error_rad: the believed hole is off by up to this, uniform in a disc
            across the axis and in a cone about it.
        start_m: the tip starts this far above the believed rim [m].
        depth_m: the tip must get this far below the true rim [m].
        limit_s: within this time [s].
        force_limit_n: what each law may ask for along the axis, and across it [N].
        force_margin_n: by how much the true force may be above that, as a mean of 10 ms [N].
        still_s: a controller without search that has not moved for this long has failed [s].
        stiffness..insert_rot: gains of the compliant law [N/m, N·m/rad]; ``axial_damping`` [N·s/m].
        stiff_trans, stiff_rot: gains of the position controller. stiff_reserve_n: kept from its
            force limit for the damping. stiff_speed_m_s: of its approach.
    """

    position_error_m: float = 0.003
    tilt_error_rad: float = math.radians(2.0)
    start_m: float = 0.005
    depth_m: float = 0.020
    limit_s: float = 30.0
    force_limit_n: float = 20.0
    force_margin_n: float = 5.0
    still_s: float = 3.0
    friction_share: float = 0.0
    search_lateral: float = 2000.0
    search_rot: float = 30.0
    insert_lateral: float = 600.0
    insert_rot: float = 3.0
    axial_damping: float = 800.0
    stiff_trans: float = 4000.0
    stiff_rot: float = 200.0
    stiff_reserve_n: float = 3.0
    stiff_speed_m_s: float = 0.005
    insertion: InsertionConfig = field(default_factory=InsertionConfig)
    spiral: SpiralConfig = field(default_factory=SpiralConfig)


@dataclass(frozen=True, kw_only=True)
class PegTrial:
    """The case of one seed: (4, 4) true and believed pose of the rim in base, z out of the hole."""

    true: Array
    believed: Array
    error_m: float
    tilt_rad: float


@dataclass(frozen=True, kw_only=True)
class PegResult:
    """What the judge saw."""

    seed: int
    success: bool
    reason: str
    time_s: float
    error_mm: float
    tilt_deg: float
    depth_mm: float
    axial_n: float
    lateral_n: float
    penetration_um: float


def draw_trial(seed: int, config: PegConfig) -> PegTrial:
    """Draw where the hole is and where it is believed to be; the same for every controller."""
    random = np.random.default_rng([seed, 80])
    true = make_pose(np.array([0.5, 0.0, 0.10]), np.eye(3))
    true[:2, 3] += random.uniform(-0.05, 0.05, 2)
    radius = config.position_error_m * math.sqrt(random.uniform())
    tilt = config.tilt_error_rad * math.sqrt(random.uniform())
    at, about = random.uniform(-math.pi, math.pi, 2)
    turn = rotation_vector_to_quat(tilt * np.array([math.cos(about), math.sin(about), 0.0]))
    offset = radius * np.array([math.cos(at), math.sin(at), 0.0])
    believed = make_pose(true[:3, 3] + offset, quat_xyzw_to_matrix(turn))
    return PegTrial(true=true, believed=believed, error_m=radius, tilt_rad=tilt)


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
        judge = _Judge(c, self.scene, trial)
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


class _Judge:
    """Decides from the true state: depth in the true hole, time, and force."""

    def __init__(self, config: PegConfig, scene: PegScene, trial: PegTrial) -> None:
        self._config, self._scene, self._true = config, scene, trial.true
        self._forces: list[Array] = []
        self._sum = np.zeros(3)
        self._still_since_s = 0.0
        self._still_at = np.zeros(3)
        self.decided = False
        self.reason = ""
        self._time_s = self._axial_n = self._lateral_n = self._depth_m = self._penetration_m = 0.0

    def see(self, time_s: float, tip: Array, force: Array, penetration_m: float) -> None:
        c = self._config
        self._time_s = time_s
        self._penetration_m = max(self._penetration_m, penetration_m)
        self._average(force)
        local = self._true[:3, :3].T @ (tip - self._true[:3, 3])
        inside = math.hypot(local[0], local[1]) < self._scene.peg_radius_m
        self._depth_m = -float(local[2]) if inside else 0.0
        if np.linalg.norm(tip - self._still_at) > 5e-5:
            self._still_since_s, self._still_at = time_s, tip
        limit_n = c.force_limit_n + c.force_margin_n
        if max(self._axial_n, self._lateral_n) > limit_n:
            self._decide("force limit exceeded")
        elif self._depth_m >= c.depth_m:
            self._decide("inserted")
        elif time_s >= c.limit_s:
            self._decide("time is up")

    def check_still(self, time_s: float) -> None:
        if not self.decided and time_s - self._still_since_s > self._config.still_s:
            self._decide("stuck")

    def result(self, seed: int, trial: PegTrial) -> PegResult:
        return PegResult(
            seed=seed,
            success=self.reason == "inserted",
            reason=self.reason,
            time_s=self._time_s,
            error_mm=1e3 * trial.error_m,
            tilt_deg=math.degrees(trial.tilt_rad),
            depth_mm=1e3 * self._depth_m,
            axial_n=self._axial_n,
            lateral_n=self._lateral_n,
            penetration_um=1e6 * self._penetration_m,
        )

    def _average(self, force: Array) -> None:
        self._forces.append(force)
        self._sum = self._sum + force
        if len(self._forces) > FORCE_WINDOW:
            self._sum = self._sum - self._forces.pop(0)
        mean = self._true[:3, :3].T @ (self._sum / FORCE_WINDOW)
        self._axial_n = max(self._axial_n, abs(float(mean[2])))
        self._lateral_n = max(self._lateral_n, math.hypot(mean[0], mean[1]))

    def _decide(self, reason: str) -> None:
        self.decided, self.reason = True, reason


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
