# SPDX-License-Identifier: Apache-2.0
"""Builds the C++ control host from checked settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import vla_ros_core as core
from vla_ros.control.arm_parts import Friction, PayloadConfig
from vla_ros.control.config import ControlConfig
from vla_ros.errors import ConfigError

SOURCES = ("policy", "teleop")


@dataclass(frozen=True, kw_only=True)
class ArmDescription:
    """What the law must know about one arm.

    Attributes:
        urdf_xml: text of the URDF.
        joint_names: base to end effector. posture: (n,) [rad]. torque_limit_nm: (n,).
        armature_kg_m2: (n,) rotor inertia seen at the joint.
        payload: load at the end effector. friction: what the law compensates.
        compensates_gravity: False where the robot carries its own weight.
    """

    urdf_xml: str
    joint_names: Sequence[str]
    base_frame: str
    ee_frame: str
    posture: Sequence[float]
    torque_limit_nm: Sequence[float]
    armature_kg_m2: Sequence[float] = ()
    payload: PayloadConfig | None = None
    friction: Friction | None = None
    compensates_gravity: bool = True


def build_model(arm: ArmDescription) -> core.RobotModel:
    """Return kinematics and dynamics of the arm.

    Raises:
        ConfigError: if a joint or frame is missing.
    """
    try:
        model = core.RobotModel(
            arm.urdf_xml,
            list(arm.joint_names),
            arm.base_frame,
            arm.ee_frame,
            list(arm.armature_kg_m2),
        )
        if arm.payload is not None:
            xx, yy, zz, xy, xz, yz = arm.payload.inertia_kg_m2
            inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            model.set_payload(arm.payload.mass_kg, np.array(arm.payload.com_m), inertia)
        return model
    except core.Error as error:
        raise ConfigError(str(error)) from error


def to_law_config(config: ControlConfig, arm: ArmDescription) -> core.LawConfig:
    """Return the law's settings in the core's form."""
    n = len(arm.joint_names)
    law = core.LawConfig.for_joints(n)
    gains = law.gains
    gains.stiffness = np.diag(np.repeat([config.stiffness_trans, config.stiffness_rot], 3))
    gains.error_clip = np.repeat([config.error_clip_trans_m, config.error_clip_rot_rad], 3)
    gains.damping_ratio = config.damping_ratio
    gains.nullspace_stiffness = [config.nullspace_stiffness] * n
    law.gains = gains
    law.compensate_gravity = arm.compensates_gravity
    if arm.friction is not None:
        friction = core.FrictionModel()
        friction.a = list(arm.friction.a_nm)
        friction.b = list(arm.friction.b_s_rad)
        friction.c = list(arm.friction.c_rad_s)
        law.friction = friction
    law.posture = list(arm.posture)
    law.torque_limit = list(arm.torque_limit_nm)
    law.torque_rate_limit = [config.torque_rate_limit_nm_s] * n
    return law


def build_host(
    config: ControlConfig,
    arm: ArmDescription,
    plant: core.Plant,
    shm_prefix: str,
    initial_gripper_width_m: float = 0.08,
) -> core.ControlHost:
    """Return a control host that owns ``plant``; start() runs it, run_ticks() steps it.

    Raises:
        ConfigError: if a setting is refused or the shared memory is in use.
    """
    host = core.ControlHostConfig()
    host.rate_hz = config.rate_hz
    host.shm_prefix = shm_prefix
    host.sources = list(SOURCES)
    host.initial_gripper_width_m = initial_gripper_width_m
    host.reference = _to_reference_config(config)
    host.law = to_law_config(config, arm)
    try:
        return core.ControlHost(host, build_model(arm), plant)
    except core.Error as error:
        raise ConfigError(str(error)) from error


def _to_reference_config(config: ControlConfig) -> core.ReferenceConfig:
    reference = core.ReferenceConfig()
    reference.max_speed_m_s = config.max_speed_m_s
    reference.max_speed_rad_s = config.max_speed_rad_s
    reference.brake_m_s2 = config.brake_m_s2
    reference.brake_rad_s2 = config.brake_rad_s2
    reference.seam_time_constant_s = config.seam_time_constant_s
    return reference
