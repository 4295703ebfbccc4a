# SPDX-License-Identifier: Apache-2.0
"""From a robot file to what the control law must know."""

from __future__ import annotations

from vla_ros.control.host import ArmDescription
from vla_ros.embodiment.model_files import find_urdf
from vla_ros.embodiment.robot import RobotConfig
from vla_ros.errors import ConfigError


def arm_of(robot: RobotConfig, *, simulated: bool = True) -> ArmDescription:
    """Return one arm as the law knows it.

    Args:
        robot: what its file says.
        simulated: joints of the simulation have no friction and nobody else carries their weight;
            a real robot may do so by itself, and has friction to compensate.

    Raises:
        ConfigError: if the URDF cannot be found.
    """
    path = find_urdf(robot.model.urdf, robot.model.wheel, robot.file)
    try:
        urdf_xml = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return ArmDescription(
        urdf_xml=urdf_xml,
        joint_names=robot.joint_names,
        base_frame=robot.base_frame,
        ee_frame=robot.ee_frame,
        posture=robot.posture_q or robot.home_q,
        torque_limit_nm=robot.limits.tau_max_nm,
        armature_kg_m2=robot.model.armature_kg_m2,
        payload=robot.payload,
        friction=None if simulated else robot.friction,
        compensates_gravity=simulated or not robot.adds_gravity,
    )
