# SPDX-License-Identifier: Apache-2.0
"""The simulated arm under the C++ law at 1 kHz: what it senses, what it is told, what is true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.control.host import ArmDescription, build_model
from vla_ros.errors import ConfigError
from vla_ros.geometry import matrix_to_quat_xyzw, rotation_error
from vla_ros.sim.contact.scene import TIP_SITE, WORK_BODY, ContactScene
from vla_ros.sim.plant import FR3_HOME_Q, fr3_arm

Array = NDArray[np.float64]

PERIOD_S = 0.001
N_JOINTS = 7
GRAVITY_M_S2 = 9.81
SENSOR_NOISE_N = 0.05  # standard deviation of one 1 kHz sample, of each axis
# Coulomb friction of the model at friction_scale 1, joints 1 to 7.
MODEL_FRICTION_NM = (1.137, 1.137, 1.137, 1.137, 0.763, 0.44, 0.248)


@dataclass
class Sensed:
    """What the controller may know.

    Attributes:
        position: (3,) tip in base [m], from the joint encoders.
        rotation: (3, 3) tip in base.
        force: (3,) on the world by the tool, base axes [N]: wrist sensor less the tool's weight.
    """

    position: Array
    rotation: Array
    force: Array


@dataclass
class Truth:
    """What only the judge may know, over one control period.

    Attributes:
        force: (3,) mean contact force of the tool on the work piece, base axes [N].
        normal_force_n: its part along the normal of the first contact [N].
        penetration_m: deepest contact [m].
    """

    force: Array
    normal_force_n: float
    penetration_m: float


def tool_arm(scene: ContactScene, com_m: float) -> ArmDescription:
    """Return the FR3 whose end effector is the tip of the tool.

    Args:
        scene: length and mass of the tool.
        com_m: its centre of mass, from the TCP of the hand [m].
    """
    arm = fr3_arm()
    tool = (
        f'<link name="tool"><inertial><origin xyz="0 0 {com_m}"/><mass value="{scene.tool_mass_kg}"'
        '/><inertia ixx="1e-5" ixy="0" ixz="0" iyy="1e-5" iyz="0" izz="1e-5"/></inertial></link>'
        '<joint name="tool_joint" type="fixed"><parent link="fr3_hand_tcp"/><child link="tool"/>'
        "</joint>"
        '<link name="tool_tip"/><joint name="tool_tip_joint" type="fixed"><parent link="tool"/>'
        f'<child link="tool_tip"/><origin xyz="0 0 {scene.tool_length_m}"/></joint></robot>'
    )
    return replace(arm, urdf_xml=arm.urdf_xml.replace("</robot>", tool), ee_frame="tool_tip")


class ContactArm:
    """Plant and law, stepped together by one control period.

    Args:
        model: a compiled contact scene.
        description: the arm with its tool, as the law knows it.
        config: first gains of the law.
        seed: noise of the force sensor.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        description: ArmDescription,
        config: core.LawConfig,
        tool_mass_kg: float,
        seed: int,
    ) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.law = core.Law(config, build_model(description))
        self.time_s = 0.0
        self._random = np.random.default_rng([seed, 77])
        self._weight = np.array([0.0, 0.0, -GRAVITY_M_S2 * tool_mass_kg])
        self._substeps = round(PERIOD_S / model.opt.timestep)
        self._tip = int(model.site(TIP_SITE).id)
        self._wrist = int(model.site("wrist").id)
        self._work = int(model.body(WORK_BODY).id)

    def start(self, q: Array) -> None:
        """Put the arm at rest at ``q`` (7,) [rad], carried by the law from the first tick."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:N_JOINTS] = q
        mujoco.mj_forward(self.model, self.data)
        self.law.reset(list(self.data.qfrc_bias[:N_JOINTS]))
        self.law.posture[:] = q
        self.target(self.tip_position(), self.tip_rotation())
        self.time_s = 0.0

    def target(self, position: Array, rotation: Array) -> None:
        """Set the law's reference pose, base frame."""
        self.law.position[:] = position
        self.law.quat_xyzw[:] = matrix_to_quat_xyzw(rotation)

    def tip_position(self) -> Array:
        """Return the tip (3,) in base [m]; forward kinematics of the joints."""
        return np.array(self.data.site_xpos[self._tip])

    def tip_rotation(self) -> Array:
        """Return the orientation (3, 3) of the tip in base."""
        return np.array(self.data.site_xmat[self._tip]).reshape(3, 3)

    def step(self) -> Truth:
        """Advance by one control period under the law; the torque is constant in it."""
        data, law = self.data, self.law
        law.q[:], law.dq[:] = data.qpos[:N_JOINTS], data.qvel[:N_JOINTS]
        law.step(PERIOD_S)
        data.ctrl[:N_JOINTS] = law.tau
        force, normal_n, depth_m = np.zeros(3), 0.0, 0.0
        for _ in range(self._substeps):
            mujoco.mj_step(self.model, data)
            if data.ncon:
                depth_m = max(depth_m, -float(data.contact.dist.min()))
                acting = data.cfrc_ext[self._work, 3:]
                force += acting
                normal_n += self._along_normal(acting)
        self.time_s += PERIOD_S
        return Truth(force / self._substeps, normal_n / self._substeps, depth_m)

    def sense(self) -> Sensed:
        """Return pose and force as the controller sees them."""
        R_wrist = self.data.site_xmat[self._wrist].reshape(3, 3)
        measured = R_wrist @ self.data.sensordata[:3]
        noise = self._random.normal(0.0, SENSOR_NOISE_N, 3)
        # The sensor carries the tool: what is left after its weight goes into the world.
        return Sensed(self.tip_position(), self.tip_rotation(), measured + self._weight + noise)

    def _along_normal(self, force: Array) -> float:
        """Return the part of a force along the normal of the first contact, into the work piece."""
        contact = self.data.contact[0]
        # The normal points from the first geom to the second.
        sign = 1.0 if self.model.geom_bodyid[contact.geom2] == self._work else -1.0
        return sign * float(force @ contact.frame[:3])


def friction_model(friction_scale: float, share: float) -> core.FrictionModel:
    """Return a compensation of ``share`` of the joint friction, smooth about rest.

    ``a / (1 + exp(-b dq))`` less its value at 0 is ``a / 2 tanh(b dq / 2)``.
    """
    friction = core.FrictionModel()
    friction.a = [2.0 * share * friction_scale * f for f in MODEL_FRICTION_NM]
    friction.b = [200.0] * N_JOINTS
    friction.c = [0.0] * N_JOINTS
    return friction


def solve_pose(model: mujoco.MjModel, position: Array, rotation: Array) -> Array:
    """Return joint positions (7,) [rad] that put the tip at a pose in base, near home.

    Raises:
        ConfigError: if the pose is out of reach.
    """
    data = mujoco.MjData(model)
    data.qpos[:N_JOINTS] = FR3_HOME_Q
    tip = int(model.site(TIP_SITE).id)
    jac = np.zeros((6, model.nv))
    for _ in range(200):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error = np.concatenate(
            [
                position - data.site_xpos[tip],
                rotation_error(data.site_xmat[tip].reshape(3, 3), rotation),
            ]
        )
        if np.abs(error).max() < 1e-9:
            return np.array(data.qpos[:N_JOINTS])
        mujoco.mj_jacSite(model, data, jac[:3], jac[3:], tip)
        data.qpos[:] += jac.T @ np.linalg.solve(jac @ jac.T + 1e-8 * np.eye(6), error)
    raise ConfigError(f"no joint position puts the tool at {position}")
