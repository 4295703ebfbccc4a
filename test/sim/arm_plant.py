# SPDX-License-Identifier: Apache-2.0
"""Arms from wheels and a plant for them: forward dynamics by Pinocchio's Python module.

Independent of the core: own model, own frame kinematics, own rotor inertia, which the law knows
nothing of unless a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pinocchio as pin
from robot_wheels import robots_folder

import vla_ros_core as core
from vla_ros.control.host import ArmDescription, build_model
from vla_ros.sim.assets import find_fr3_assets

Wrench = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _read(relative: str) -> str:
    return (robots_folder() / relative).read_text(encoding="utf-8")


def arm_named(name: str) -> ArmDescription:
    """Return one of the arms under test at its home posture."""
    if name == "fr3":
        return ArmDescription(
            urdf_xml=find_fr3_assets().urdf.read_text(encoding="utf-8"),
            joint_names=[f"fr3_joint{i}" for i in range(1, 8)],
            base_frame="fr3_link0",
            ee_frame="fr3_hand_tcp",
            posture=[0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4],
            torque_limit_nm=[87.0] * 4 + [12.0] * 3,
        )
    if name == "panda":
        return ArmDescription(
            urdf_xml=_read("panda_description/urdf/panda.urdf"),
            joint_names=[f"panda_joint{i}" for i in range(1, 8)],
            base_frame="panda_link0",
            ee_frame="panda_hand_tcp",
            posture=[0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4],
            torque_limit_nm=[87.0] * 4 + [12.0] * 3,
        )
    if name == "ur5":
        joints = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
        return ArmDescription(
            urdf_xml=_read("ur_description/urdf/ur5_robot.urdf"),
            joint_names=[f"{j}_joint" for j in joints],
            base_frame="base_link",
            ee_frame="tool0",
            posture=[0.0, -1.8, 1.9, -1.6, -1.57, 0.3],
            torque_limit_nm=[150.0] * 3 + [28.0] * 3,
        )
    joints = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow")
    wrist = ("wrist_roll", "wrist_pitch", "wrist_yaw")
    return ArmDescription(
        urdf_xml=_read("g1_description/urdf/g1_29dof_rev_1_0.urdf"),
        joint_names=[f"left_{j}_joint" for j in (*joints, *wrist)],
        base_frame="torso_link",
        ee_frame="left_rubber_hand",
        posture=[-0.3, 0.2, 0.4, -0.5, -0.8, -0.2, -0.5],
        torque_limit_nm=[25.0] * 5 + [5.0] * 2,
    )


ARMS = ("panda", "fr3", "ur5", "g1_left_arm")
# In the plant, unknown to the law. The humanoid's links weigh a tenth of the others'.
ROTOR_INERTIA_KG_M2 = {"g1_left_arm": 0.01}


def law_config(arm: ArmDescription) -> core.LawConfig:
    """Return the default law with K 500/30 and limits that are never met."""
    n = len(arm.joint_names)
    config = core.LawConfig.for_joints(n)
    config.posture = list(arm.posture)
    config.torque_limit = [1000.0] * n
    config.torque_rate_limit = [1e5] * n
    config.limit_torque_nm = 0.0
    config.gain_ramp_s = 0.0
    set_gains(config, stiffness=np.diag([500.0] * 3 + [30.0] * 3))
    set_gains(config, error_clip=np.array([0.1] * 3 + [0.5] * 3))
    return config


def set_gains(config: core.LawConfig, **values: object) -> None:
    """Change gains of a configuration, which hands out copies."""
    gains = config.gains
    for name, value in values.items():
        setattr(gains, name, value)
    config.gains = gains


@dataclass
class ArmPlant:
    """Semi-implicit Euler on forward dynamics, four or more steps per tick."""

    arm: ArmDescription
    armature_kg_m2: float = 0.1
    substeps: int = 4
    q: np.ndarray = field(init=False)
    dq: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        full = pin.buildModelFromXML(self.arm.urdf_xml)
        locked = [i for i in range(1, full.njoints) if full.names[i] not in self.arm.joint_names]
        self.model = pin.buildReducedModel(full, locked, pin.neutral(full))
        self.model.armature = np.full(self.model.nv, self.armature_kg_m2)
        self.data = self.model.createData()
        self.frame = self.model.getFrameId(self.arm.ee_frame)
        self.q, self.dq = np.array(self.arm.posture, dtype=float), np.zeros(self.model.nv)
        pin.framesForwardKinematics(self.model, self.data, self.q)
        self.T_base = self.data.oMf[self.model.getFrameId(self.arm.base_frame)].copy()

    def step(self, tau: np.ndarray, dt_s: float, wrench: Wrench | None = None) -> None:
        """Let ``dt_s`` pass under a constant torque and a wrench on the end effector, in base."""
        dt = dt_s / self.substeps
        for _ in range(self.substeps):
            total = tau
            if wrench is not None:
                J = self.jacobian()
                position = self.T_base.actInv(self.data.oMf[self.frame]).translation
                total = tau + J.T @ wrench(position, J @ self.dq)
            self.dq = self.dq + dt * pin.aba(self.model, self.data, self.q, self.dq, total)
            self.q = self.q + dt * self.dq

    def jacobian(self) -> np.ndarray:
        """Return the (6, n) Jacobian at the end effector along base axes; updates the pose."""
        J = pin.computeFrameJacobian(
            self.model, self.data, self.q, self.frame, pin.LOCAL_WORLD_ALIGNED
        )
        pin.updateFramePlacement(self.model, self.data, self.frame)
        return np.kron(np.eye(2), self.T_base.rotation.T) @ J

    def pose(self) -> pin.SE3:
        """Return the end effector in base."""
        pin.framesForwardKinematics(self.model, self.data, self.q)
        return self.T_base.actInv(self.data.oMf[self.frame])

    def mass(self) -> np.ndarray:
        """Return the joint inertia with rotors."""
        M = pin.crba(self.model, self.data, self.q)
        return np.triu(M) + np.triu(M, 1).T


@dataclass
class Loop:
    """A law on a plant, with the pose at the start as target."""

    arm: ArmDescription
    config: core.LawConfig
    plant: ArmPlant
    dt_s: float = 1e-3

    def __post_init__(self) -> None:
        self.law = core.Law(self.config, build_model(self.arm))
        start = self.plant.pose()
        self.aim(start.translation, start.rotation)
        gravity = pin.computeGeneralizedGravity(self.plant.model, self.plant.data, self.plant.q)
        self.law.reset(list(gravity))

    def aim(self, position: np.ndarray, rotation: np.ndarray | None = None) -> None:
        """Set the target pose in base."""
        self.law.position[:] = position
        if rotation is not None:
            self.law.quat_xyzw[:] = pin.Quaternion(rotation).coeffs()

    def tick(self, wrench: Wrench | None = None) -> None:
        """One control period."""
        self.law.q[:], self.law.dq[:] = self.plant.q, self.plant.dq
        self.law.step(self.dt_s)
        self.plant.step(self.law.tau, self.dt_s, wrench)

    def run(self, duration_s: float, wrench: Wrench | None = None) -> None:
        """Let time pass."""
        for _ in range(round(duration_s / self.dt_s)):
            self.tick(wrench)


def random_poses(plant: ArmPlant, n: int, seed: int) -> list[np.ndarray]:
    """Return the poses of ``n`` draws from the middle 80 % of every range that are not singular."""
    random = np.random.default_rng(seed)
    low, high = plant.model.lowerPositionLimit, plant.model.upperPositionLimit
    poses = []
    for _ in range(n):
        q = random.uniform(low + 0.1 * (high - low), high - 0.1 * (high - low))
        J = pin.computeFrameJacobian(
            plant.model, plant.data, q, plant.frame, pin.LOCAL_WORLD_ALIGNED
        )
        if np.linalg.svd(J, compute_uv=False)[-1] >= 0.05:
            poses.append(q)
    return poses
