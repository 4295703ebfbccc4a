# SPDX-License-Identifier: Apache-2.0
"""What the control law must know about one arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import vla_ros_core as core
from vla_ros.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ArmDescription:
    """What the law must know about one arm.

    Attributes:
        urdf_xml: text of the URDF.
        joint_names: base to end effector. posture: (n,) [rad]. torque_limit_nm: (n,).
        armature_kg_m2: (n,) rotor inertia seen at the joint.
    """

    urdf_xml: str
    joint_names: Sequence[str]
    base_frame: str
    ee_frame: str
    posture: Sequence[float]
    torque_limit_nm: Sequence[float]
    armature_kg_m2: Sequence[float] = ()


def build_model(arm: ArmDescription) -> core.RobotModel:
    """Return kinematics and dynamics of the arm.

    Raises:
        ConfigError: if a joint or frame is missing.
    """
    try:
        return core.RobotModel(
            arm.urdf_xml,
            list(arm.joint_names),
            arm.base_frame,
            arm.ee_frame,
            list(arm.armature_kg_m2),
        )
    except core.Error as error:
        raise ConfigError(str(error)) from error
