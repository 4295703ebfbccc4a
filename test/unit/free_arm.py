# SPDX-License-Identifier: Apache-2.0
"""An arm in free space for tests: Pinocchio's forward dynamics under the law of the core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pinocchio as pin
from law_reference import pinocchio_model

import vla_ros_core as core
from vla_ros.control.host import build_model
from vla_ros.sim.plant import FR3_HOME_Q, fr3_arm

HOME = np.array(FR3_HOME_Q)
DT_S = 1e-3
SUBSTEPS = 4
ROTOR_INERTIA = 0.1  # in the plant only [kg·m²]


class FreeArm:
    """The FR3 at home, at rest, under ``law``; rotor inertia unknown to the law."""

    def __init__(self, law: core.LawConfig) -> None:
        arm = fr3_arm()
        self.model = pinocchio_model(arm)
        self.model.armature = np.full(self.model.nv, ROTOR_INERTIA)
        self.data = self.model.createData()
        self.frame = self.model.getFrameId(arm.ee_frame)
        core_model = core.RobotModel(
            arm.urdf_xml, list(arm.joint_names), arm.base_frame, arm.ee_frame, []
        )
        self.law = core.Law(law, core_model)
        self.q, self.dq = HOME.copy(), np.zeros(len(HOME))
        gravity = pin.computeGeneralizedGravity(self.model, self.data, self.q)
        self.law.reset(list(gravity))
        self.force = np.zeros(6)  # of others on the end effector, base axes

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) and rotation (3, 3) of the end effector."""
        pin.framesForwardKinematics(self.model, self.data, self.q)
        placement = self.data.oMf[self.frame]
        return placement.translation.copy(), placement.rotation.copy()

    def quat_xyzw(self) -> np.ndarray:
        return pin.Quaternion(self.pose()[1]).coeffs().copy()

    def step(self, position, quat_xyzw, twist, acceleration=None) -> int:
        """One tick of law and plant towards a reference."""
        law = self.law
        law.q[:], law.dq[:] = self.q, self.dq
        law.position[:], law.quat_xyzw[:], law.twist[:] = position, quat_xyzw, twist
        law.acceleration[:] = 0.0 if acceleration is None else acceleration
        status = law.step(DT_S)
        for _ in range(SUBSTEPS):
            ddq = pin.aba(self.model, self.data, self.q, self.dq, np.array(law.tau) + self.push())
            self.dq = self.dq + ddq * DT_S / SUBSTEPS
            self.q = self.q + self.dq * DT_S / SUBSTEPS
        return status

    def push(self) -> np.ndarray:
        """Return the joint torque of the force of others."""
        if not self.force.any():
            return np.zeros(self.model.nv)
        J = pin.computeFrameJacobian(
            self.model, self.data, self.q, self.frame, pin.LOCAL_WORLD_ALIGNED
        )
        return np.array(J.T @ self.force)


def figure_eight(t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return offset [m], velocity and acceleration of the figure-eight at time ``t`` [s]."""
    amplitude = np.array([0.0, 0.1, 0.1])
    w = 2 * np.pi * np.array([0.0, 0.25, 0.125])
    return (
        amplitude * np.sin(w * t),
        amplitude * w * np.cos(w * t),
        -amplitude * w**2 * np.sin(w * t),
    )


def track(arm: FreeArm, reference: Callable[[int], tuple], duration_s: float = 8.0) -> np.ndarray:
    """Return the positions (ticks, 3) of the arm while it follows ``reference(tick)``."""
    positions = []
    for tick in range(round(duration_s / DT_S)):
        arm.step(*reference(tick))
        positions.append(arm.pose()[0])
    return np.array(positions)


def rms_jerk(positions: np.ndarray) -> float:
    """Return the rms jerk [m/s³] of positions (ticks, 3), without the first second."""
    jerk = np.diff(positions[1000:], n=3, axis=0) / DT_S**3
    return float(np.sqrt((jerk**2).sum(axis=1).mean()))


def rmse(positions: np.ndarray, wanted: np.ndarray) -> float:
    """Return the root mean square distance [m], without the first second."""
    return float(np.sqrt(((positions - wanted)[1000:] ** 2).sum(axis=1).mean()))


__all__ = ["DT_S", "HOME", "FreeArm", "build_model", "figure_eight", "rms_jerk", "rmse", "track"]
