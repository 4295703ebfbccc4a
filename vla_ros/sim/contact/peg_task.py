# SPDX-License-Identifier: Apache-2.0
"""The peg task: its cases, and the judge that sees the true state. No controller."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.control.search import InsertionConfig, SpiralConfig
from vla_ros.geometry import make_pose, quat_xyzw_to_matrix, rotation_vector_to_quat
from vla_ros.sim.contact.scene import PegScene

Array = NDArray[np.float64]

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


class PegJudge:
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
        """Look at one tick: tip (3,) [m] and contact force (3,) [N] in base, deepest contact."""
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
        """Give up on a controller that waits for nothing and has not moved for long."""
        if not self.decided and time_s - self._still_since_s > self._config.still_s:
            self._decide("stuck")

    def result(self, seed: int, trial: PegTrial) -> PegResult:
        """Return the verdict; once ``decided``."""
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
