# SPDX-License-Identifier: Apache-2.0
"""What the control law must know about one arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import vla_ros_core as core
from vla_ros.control.arm_parts import Friction, PayloadConfig
from vla_ros.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ArmDescription:
    """What the law must know about one arm.

    Attributes:
        urdf_xml: text of the URDF.
        joint_names: base to end effector. posture: (n,) [rad]. torque_limit_nm: (n,).
        armature_kg_m2: (n,) rotor inertia seen at the joint.
        payload: load at the end effector. friction: what the law compensates, unless its settings
            say otherwise. compensates_gravity: False where the robot carries its own weight.
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
