# SPDX-License-Identifier: Apache-2.0
"""Wiping: 5 N on a surface of unknown height, along lines whose targets get lost. And its judge."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.control.force_task import ForceTask, ForceTaskConfig
from vla_ros.sim.contact.arm import PERIOD_S, ContactArm, friction_model, solve_pose, tool_arm
from vla_ros.sim.contact.scene import WORK_BODY, WipeScene, build_wipe_scene
from vla_ros.sim.contact.targets import PERIOD_NS, ROWS, HostReference
from vla_ros.sim.plant import FR3_TORQUE_LIMIT_NM

Array = NDArray[np.float64]

DOWN = np.diag([1.0, -1.0, -1.0])
SURFACE_Z_M = 0.10
WINDOW_TICKS = 100


@dataclass(frozen=True, kw_only=True)
class WipeConfig:
    """The wiping task.

    Attributes:
        surface: "flat" or "curved"; see ``WipeScene``.
        height_error_m: the surface is up to this far from where it is believed, either way [m].
        tilt_rad: the surface is tilted by up to this, in any direction [rad].
        loss: share of lost targets.
        speed_m_s: along the lines. lines: how many, ``spacing_m`` apart, ``length_m`` long.
        friction_share: share of the joint friction that the law compensates.
        integral: correct the force by its measurement.
        settle_s: after contact, before the judge looks [s].
        covered_m: a point of the path counts as wiped if the tool came this close to it [m].
        stiffness, stiffness_rot: sideways and of rotation, per unit of task inertia [1/s²].
        approach_damping, contact_damping: along the normal, per unit of task inertia [1/s].
    """

    surface: str = "flat"
    height_error_m: float = 0.005
    tilt_rad: float = 0.0
    loss: float = 0.3
    speed_m_s: float = 0.08
    lines: int = 4
    length_m: float = 0.16
    spacing_m: float = 0.02
    friction_share: float = 0.0
    integral: bool = True
    settle_s: float = 0.5
    covered_m: float = 0.005
    stiffness: float = 400.0
    stiffness_rot: float = 400.0
    approach_damping: float = 50.0
    contact_damping: float = 5.0
    force: ForceTaskConfig = field(default_factory=ForceTaskConfig)


@dataclass(frozen=True, kw_only=True)
class WipeResult:
    """What the judge saw; forces are those along the true normal.

    Attributes:
        windows, windows_off: means of 100 ms after settling, and those off by more than 0.5 N.
        worst_window_n: largest deviation of such a mean. rms_n, p95_n, max_n: of the deviation of
            the 1 ms values.
        lost_contact_ms: time without contact after settling.
        coverage: share of the path's points that were wiped.
        penetration_um: deepest contact of the whole run.
    """

    seed: int
    windows: int
    windows_off: int
    worst_window_n: float
    mean_n: float
    rms_n: float
    p95_n: float
    max_n: float
    lost_contact_ms: int
    coverage: float
    targets: int
    lost: int
    refused: int
    penetration_um: float
    peak_impact_n: float
    duration_s: float


class RasterPath:
    """Lines to and fro with short links, at constant speed.

    Args:
        centre: (2,) middle of the area in base [m].
    """

    def __init__(self, config: WipeConfig, centre: Array) -> None:
        half, width = config.length_m / 2, config.spacing_m * (config.lines - 1) / 2
        corners = []
        for i in range(config.lines):
            x = -width + i * config.spacing_m
            ends = (-half, half) if i % 2 == 0 else (half, -half)
            corners += [(x, ends[0]), (x, ends[1])]
        self._corners = np.array(corners) + centre
        lengths = np.linalg.norm(np.diff(self._corners, axis=0), axis=1)
        self._times = np.concatenate([[0.0], np.cumsum(lengths)]) / config.speed_m_s
        self.duration_s = float(self._times[-1])

    def at(self, time_s: float) -> tuple[Array, Array]:
        """Return position (2,) [m] and velocity (2,) [m/s]; at rest before and after."""
        position = np.array([np.interp(time_s, self._times, c) for c in self._corners.T])
        if not 0.0 <= time_s < self.duration_s:
            return position, np.zeros(2)
        i = int(np.searchsorted(self._times, time_s, side="right")) - 1
        step = self._corners[i + 1] - self._corners[i]
        return position, step / (self._times[i + 1] - self._times[i])

    def points(self, spacing_m: float = 0.001) -> Array:
        """Return points (n, 2) [m] along the path."""
        n = round(np.linalg.norm(np.diff(self._corners, axis=0), axis=1).sum() / spacing_m)
        return np.array([self.at(t)[0] for t in np.linspace(0.0, self.duration_s, n + 1)])


@dataclass
class WipeTrace:
    """Every tick of one run: time [s], true normal force [N], tip (3,) and reference (3,) [m]."""

    time_s: list[float] = field(default_factory=list)
    force_n: list[float] = field(default_factory=list)
    command_n: list[float] = field(default_factory=list)
    tip: list[Array] = field(default_factory=list)
    reference: list[Array] = field(default_factory=list)
    penetration_m: float = 0.0


class WipeRunner:
    """Runs wiping tasks one after the other on one kind of surface."""

    def __init__(self, config: WipeConfig) -> None:
        self.config = config
        self.scene = WipeScene(surface=config.surface)
        self.model = build_wipe_scene(self.scene)
        self._com_m = self.scene.tool_length_m - self.scene.tool_radius_m
        self._description = tool_arm(self.scene, self._com_m)
        self._reference = HostReference(config.loss)

    def close(self) -> None:
        """Free the shared memory of the reference."""
        self._reference.close()

    def run(self, seed: int) -> tuple[WipeResult, WipeTrace, ContactArm]:
        """Wipe the surface of one seed; deterministic."""
        c = self.config
        random = np.random.default_rng([seed, 79])
        centre = np.array([0.50, 0.0]) + random.uniform(-0.03, 0.03, 2)
        height = SURFACE_Z_M + random.uniform(-c.height_error_m, c.height_error_m)
        tilt, about = random.uniform(0.0, c.tilt_rad), random.uniform(-math.pi, math.pi)
        axis = math.sin(tilt / 2) * np.array([math.cos(about), math.sin(about), 0.0])
        work = int(self.model.body(WORK_BODY).id)
        self.model.body_pos[work] = (*centre, height)
        self.model.body_quat[work] = (math.cos(tilt / 2), *axis)
        path = RasterPath(c, centre)
        start = np.array([*path.at(0.0)[0], SURFACE_Z_M + 0.02])
        q = solve_pose(self.model, start, DOWN)
        law = self._law_config(q, c.approach_damping)
        arm = ContactArm(self.model, self._description, law, self.scene.tool_mass_kg, seed)
        arm.start(q)
        self._reference.start(q, seed)
        trace = WipeTrace()
        contact_s = self._approach(arm, trace, start)
        arm.law.apply(self._law_config(q, c.contact_damping))
        self._wipe(arm, trace, path, contact_s)
        refused = self._reference.rejected()
        return self._judge(seed, trace, path, contact_s, refused), trace, arm

    def _law_config(self, q: Array, damping: float) -> core.LawConfig:
        """Stiff sideways and in rotation; along the normal a little damping and no stiffness.

        Operational space: plain impedance would turn every sideways pull into a normal force by
        way of the coupled inertia of the arm.
        """
        c = self.config
        law = core.LawConfig.for_joints(len(q))
        law.kind = core.LawKind.OPERATIONAL_SPACE
        gains = law.gains
        gains.stiffness = np.diag([c.stiffness] * 2 + [0.0] + [c.stiffness_rot] * 3)
        gains.error_clip = np.array([0.02] * 3 + [0.3] * 3)
        gains.extra_damping = np.array([0.0, 0.0, damping, 0.0, 0.0, 0.0])
        gains.nullspace_stiffness = [10.0] * len(q)
        law.gains = gains
        law.posture = list(q)
        law.torque_limit = list(FR3_TORQUE_LIMIT_NM)
        law.torque_rate_limit = [1000.0] * len(q)
        law.friction = friction_model(self.scene.friction_scale, c.friction_share)
        return law

    def _approach(self, arm: ContactArm, trace: WipeTrace, start: Array) -> float:
        """Sink onto the surface under the wanted force, slowed by damping; time of contact [s]."""
        felt = ForceTask(self.config.force)
        arm.target(start, DOWN)
        arm.law.wrench[:] = (0.0, 0.0, -self.config.force.force_n, 0.0, 0.0, 0.0)
        while arm.time_s < 10.0:
            self._tick(arm, trace, start, self.config.force.force_n)
            felt.update(-float(arm.sense().force[2]), PERIOD_S)
            if felt.in_contact:
                break
        return arm.time_s

    def _wipe(self, arm: ContactArm, trace: WipeTrace, path: RasterPath, contact_s: float) -> None:
        c = self.config
        task = ForceTask(c.force)
        begin_s = contact_s + c.settle_s
        period_s = PERIOD_NS / NS_PER_S
        next_s = begin_s
        tool = np.array([0.0, 0.0, self.scene.tool_length_m])
        while arm.time_s < begin_s + path.duration_s + 0.3:
            if arm.time_s >= next_s - 1e-9:
                next_s += period_s
                self._send(path, arm.time_s - begin_s)
            position, velocity3 = self._reference.step()
            reference = position + DOWN @ tool
            arm.target(reference, DOWN)
            arm.law.twist[:2] = velocity3[:2]
            wanted_n = task.update(-float(arm.sense().force[2]), PERIOD_S)
            command_n = wanted_n if c.integral else c.force.force_n
            arm.law.wrench[2] = -command_n
            self._tick(arm, trace, reference, command_n)

    def _send(self, path: RasterPath, time_s: float) -> None:
        ahead_s = [time_s + i * PERIOD_NS / NS_PER_S for i in range(ROWS)]
        flange_z = SURFACE_Z_M + self.scene.tool_length_m
        rows = [path.at(t) for t in ahead_s]
        positions = np.array([[*xy, flange_z] for xy, _ in rows])
        velocities = np.array([[*velocity, 0.0] for _, velocity in rows])
        self._reference.send(positions, DOWN, velocities)

    def _tick(self, arm: ContactArm, trace: WipeTrace, reference: Array, command_n: float) -> None:
        truth = arm.step()
        trace.time_s.append(arm.time_s)
        trace.force_n.append(truth.normal_force_n)
        trace.command_n.append(command_n)
        trace.tip.append(arm.tip_position())
        trace.reference.append(reference)
        trace.penetration_m = max(trace.penetration_m, truth.penetration_m)

    def _judge(
        self,
        seed: int,
        trace: WipeTrace,
        path: RasterPath,
        contact_s: float,
        refused: int,
    ) -> WipeResult:
        c = self.config
        time_s, force_n = np.array(trace.time_s), np.array(trace.force_n)
        late = force_n[time_s > contact_s + c.settle_s]
        means = late[: len(late) // WINDOW_TICKS * WINDOW_TICKS].reshape(-1, WINDOW_TICKS).mean(1)
        off = np.abs(late - c.force.force_n)
        off_mean = np.abs(means - c.force.force_n)
        touching = np.array(trace.tip)[force_n > 0.5 * c.force.force_n, :2]
        gaps = [np.linalg.norm(touching - p, axis=1).min() for p in path.points()]
        return WipeResult(
            seed=seed,
            windows=len(means),
            windows_off=int((off_mean > 0.5).sum()),
            worst_window_n=float(off_mean.max()),
            mean_n=float(late.mean()),
            rms_n=float(np.sqrt(np.mean(off**2))),
            p95_n=float(np.percentile(off, 95)),
            max_n=float(off.max()),
            lost_contact_ms=int((late < 0.01).sum()),
            coverage=float(np.mean(np.array(gaps) <= c.covered_m)),
            targets=self._reference.sent,
            lost=self._reference.lost,
            refused=refused,
            penetration_um=1e6 * trace.penetration_m,
            peak_impact_n=float(force_n.max()),
            duration_s=float(time_s[-1]),
        )
