# SPDX-License-Identifier: Apache-2.0
"""A small Cartesian impedance loop in NumPy, only to exercise the scene in tests."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from vla_ros.geometry import rotation_about_z, rotation_error
from vla_ros.sim.scene_info import SceneInfo

STIFFNESS = np.array([600.0, 600.0, 600.0, 30.0, 30.0, 30.0])
DAMPING = np.array([110.0, 110.0, 110.0, 6.0, 6.0, 6.0])
DOWN = np.diag([1.0, -1.0, -1.0])


class ImpedanceArm:
    """Steps the scene while the TCP follows straight lines with the gripper pointing down."""

    def __init__(self, model: mujoco.MjModel, info: SceneInfo, qpos: np.ndarray) -> None:
        self.model, self.info = model, info
        self.data = mujoco.MjData(model)
        self.data.qpos[:] = qpos
        mujoco.mj_forward(model, self.data)
        self.body = model.body("fr3_hand_tcp").id
        self.target = self.data.xpos[self.body].copy()
        self.yaw = 0.0
        self.width_m = info.gripper_max_width_m

    def go(self, position: tuple[float, float, float], yaw: float, speed_m_s: float = 0.25) -> None:
        """Move in a straight line, then wait 0.3 s."""
        start, start_yaw = self.target.copy(), self.yaw
        steps = max(1, int(math.dist(start, position) / speed_m_s / self.info.timestep_s))
        for i in range(1, steps + 1):
            self.target = start + (np.array(position) - start) * i / steps
            self.yaw = start_yaw + (yaw - start_yaw) * i / steps
            self.step(1)
        self.step(300)

    def grip(self, width_m: float) -> None:
        """Ask for a width and wait 0.8 s."""
        self.width_m = width_m
        self.step(800)

    def step(self, count: int) -> None:
        """Advance with the present target."""
        jacobian = np.zeros((6, self.model.nv))
        dof, qpos = list(self.info.arm_dof), list(self.info.arm_qpos)
        home = np.array(self.info.home_qpos)[qpos]
        for _ in range(count):
            data = self.data
            mujoco.mj_jacBody(self.model, data, jacobian[:3], jacobian[3:], self.body)
            J = jacobian[:, dof]
            dq = data.qvel[dof]
            R = data.xmat[self.body].reshape(3, 3)
            R_goal = rotation_about_z(self.yaw) @ DOWN
            error = np.concatenate([self.target - data.xpos[self.body], rotation_error(R, R_goal)])
            tau = J.T @ (STIFFNESS * error - DAMPING * (J @ dq)) + data.qfrc_bias[dof]
            nullspace = np.eye(7) - J.T @ np.linalg.pinv(J.T)
            tau += nullspace @ (10.0 * (home - data.qpos[qpos]) - 2.0 * dq)
            data.ctrl[list(self.info.arm_actuators)] = tau
            data.ctrl[self.info.gripper_actuator] = self.width_m
            mujoco.mj_step(self.model, data)
