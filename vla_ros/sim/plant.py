# SPDX-License-Identifier: Apache-2.0
"""The simulated robot for the control host: MuJoCo's C library and the compiled scene.

Imports no MuJoCo: the C++ core loads the library of the wheel by its path.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import vla_ros_core as core
from vla_ros.control.host import ArmDescription
from vla_ros.errors import ConfigError
from vla_ros.sim.assets import find_fr3_assets

FR3_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
# Rotor inertia of the model that is simulated; known for the real arm only from identification.
FR3_ARMATURE_KG_M2 = (0.195, 0.195, 0.195, 0.195, 0.074, 0.074, 0.074)
FR3_TORQUE_LIMIT_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
FR3_HOME_Q = (
    0.0,
    -0.7853981633974483,
    0.0,
    -2.356194490192345,
    0.0,
    1.5707963267948966,
    0.7853981633974483,
)


def find_mujoco_library() -> Path:
    """Return the path of the MuJoCo library inside its wheel.

    Raises:
        ConfigError: if the wheel is not installed.
    """
    spec = importlib.util.find_spec("mujoco")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [p for folder in folders for p in sorted(Path(folder).glob("libmujoco.so*"))]
    if not found:
        raise ConfigError("the MuJoCo library is missing: install it with `pip install mujoco`")
    return found[0]


def fr3_arm() -> ArmDescription:
    """Return the FR3 with hand as the law knows it."""
    return ArmDescription(
        urdf_xml=find_fr3_assets().urdf.read_text(encoding="utf-8"),
        joint_names=FR3_JOINTS,
        base_frame="fr3_link0",
        ee_frame="fr3_hand_tcp",
        posture=FR3_HOME_Q,
        torque_limit_nm=FR3_TORQUE_LIMIT_NM,
        armature_kg_m2=FR3_ARMATURE_KG_M2,
    )


def build_plant(model_path: Path, snapshot_ring: str) -> core.MujocoPlant:
    """Return the simulated FR3 of a compiled scene.

    Raises:
        ConfigError: if the library or the model does not fit.
    """
    config = core.MujocoPlantConfig()
    config.library_path = str(find_mujoco_library())
    config.model_path = str(model_path)
    config.joint_names = list(FR3_JOINTS)
    config.actuator_names = list(FR3_JOINTS)
    config.gripper_actuator = "gripper"
    config.gripper_joint_names = ["finger_joint1", "finger_joint2"]
    config.gripper_ctrl_per_m = 1.0
    config.gripper_max_width_m = 0.08
    config.snapshot_ring = snapshot_ring
    try:
        return core.MujocoPlant(config)
    except core.Error as error:
        raise ConfigError(str(error)) from error
