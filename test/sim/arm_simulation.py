# SPDX-License-Identifier: Apache-2.0
"""An arm as a rigid body tree in Pinocchio's Python module: an independent plant for unit tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from robot_wheels import robots_folder

from vla_ros.control.host import ArmDescription

UR5_HOME_Q = (0.0, -1.2, 1.6, -1.9, -1.57, 0.3)


def ur5_arm() -> ArmDescription:
    """Return the UR5 of the wheel ``example-robot-data``, or skip the test where it is missing."""
    urdf = robots_folder() / "ur_description/urdf/ur5_robot.urdf"
    return ArmDescription(
        urdf_xml=urdf.read_text(encoding="utf-8"),
        joint_names=(
            "shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint",
            "wrist_1_joint", "wrist_2_joint", "wrist_3_joint",
        ),
        base_frame="base_link",
        ee_frame="tool0",
        posture=UR5_HOME_Q,
        torque_limit_nm=(150.0, 150.0, 150.0, 28.0, 28.0, 28.0),
    )  # fmt: skip


@dataclass
class ArmSimulation:
    """Forward dynamics by ABA, midpoint rule, torque held over a tick.

    ``wrench``: (6,) [N, N·m] by the world on the arm at the end effector, base axes.
    ``friction``: joint torque [N·m] against the motion, as a function of dq.
    """

    model: pin.Model
    frame: int
    q: np.ndarray
    dq: np.ndarray
    wrench: np.ndarray
    friction: Callable[[np.ndarray], np.ndarray] = np.zeros_like
    substeps: int = 4

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        data = self.model.createData()
        return pin.computeFrameJacobian(self.model, data, q, self.frame, pin.LOCAL_WORLD_ALIGNED)

    def gravity(self) -> np.ndarray:
        return pin.computeGeneralizedGravity(self.model, self.model.createData(), self.q)

    def tick(self, tau: np.ndarray, dt_s: float) -> None:
        h = dt_s / self.substeps
        for _ in range(self.substeps):
            q_mid, dq_mid = self.q + 0.5 * h * self.dq, self.dq + 0.5 * h * self._ddq(tau)
            ddq = self._ddq(tau, q_mid, dq_mid)
            self.q = self.q + h * dq_mid
            self.dq = self.dq + h * ddq

    def _ddq(self, tau, q=None, dq=None):
        q, dq = (self.q if q is None else q), (self.dq if dq is None else dq)
        total = tau + self.jacobian(q).T @ self.wrench - self.friction(dq)
        return pin.aba(self.model, self.model.createData(), q, dq, total)
