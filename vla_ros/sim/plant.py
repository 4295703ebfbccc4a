# SPDX-License-Identifier: Apache-2.0
"""The simulated robot for the control host: MuJoCo's C library and the compiled scene.

Imports no MuJoCo: the C++ core loads the library of the wheel by its path.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import vla_ros_core as core
from vla_ros.control.host import ArmDescription
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import load_robot
from vla_ros.errors import ConfigError

FR3_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
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
    return arm_of(load_robot("fr3"))


def build_plant(model_path: Path, snapshot_ring: str) -> core.MujocoPlant:
    """Return the simulated FR3 of a compiled scene.

    Raises:
        ConfigError: if the library or the model does not fit.
    """
    config = core.MujocoPlantConfig()
    config.joint_names = list(FR3_JOINTS)
    config.gripper_actuator = "gripper"
    config.gripper_joint_names = ["finger_joint1", "finger_joint2"]
    config.gripper_ctrl_per_m = 1.0
    config.gripper_max_width_m = 0.08
    return _build(config, model_path, snapshot_ring)


def build_arm_plant(
    model_path: Path, joint_names: Sequence[str], snapshot_ring: str
) -> core.MujocoPlant:
    """Return the simulated arm of a model made by ``prepare_arm``.

    Raises:
        ConfigError: if the library or the model does not fit.
    """
    config = core.MujocoPlantConfig()
    config.joint_names = list(joint_names)
    return _build(config, model_path, snapshot_ring)


def _build(
    config: core.MujocoPlantConfig, model_path: Path, snapshot_ring: str
) -> core.MujocoPlant:
    config.library_path = str(find_mujoco_library())
    config.model_path = str(model_path)
    config.actuator_names = config.joint_names
    config.snapshot_ring = snapshot_ring
    try:
        return core.MujocoPlant(config)
    except core.Error as error:
        raise ConfigError(str(error)) from error
