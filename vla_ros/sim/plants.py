# SPDX-License-Identifier: Apache-2.0
"""The simulated robot of a control node: the FR3 in its cell, or any robot's bare arm.

Imports no MuJoCo, like ``plant``: a model that is not there yet is compiled by another process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import vla_ros_core as core
from vla_ros.control.host import ArmDescription
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import RobotConfig, load_robot
from vla_ros.errors import ConfigError
from vla_ros.sim.plant import build_arm_plant, build_plant
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.sim.tasks import apply_layout, sample_layout

_FR3_FINGERS = ("fr3_finger_joint1", "fr3_finger_joint2")
_COMPILE_LIMIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class SimulatedRobot:
    """What a control node runs.

    Attributes:
        scene: the cell around the arm; None for a bare arm.
        finger_joints: joints of the URDF that share the gripper's opening; empty without one.
    """

    robot: RobotConfig
    arm: ArmDescription
    plant: core.MujocoPlant
    scene: SceneInfo | None
    finger_joints: tuple[str, ...]

    def qpos_of(self, seed: int) -> list[float]:
        """Return the state of the model that a reset goes to: a layout, or the arm at home."""
        if self.scene is None:
            return list(self.robot.home_q)
        return list(apply_layout(self.scene, sample_layout(seed)))

    def cell(self) -> SceneInfo:
        """Return the cell around the arm.

        Raises:
            ConfigError: if there is none.
        """
        if self.scene is None:
            raise ConfigError(f"{self.robot.name} runs without a scene: there is no goal to judge")
        return self.scene


def plant_for(
    robot: str, scene_model: str, scene_info: str, snapshot_ring: str, rate_hz: float
) -> SimulatedRobot:
    """Return the robot to simulate.

    Args:
        robot: its name, or the path of a robot file.
        scene_model: compiled model; empty: the bare arm is compiled here.
        scene_info: description of the cell; empty for a bare arm.
        snapshot_ring: where the simulation publishes its state.
        rate_hz: control rate, which a bare arm's model must have been compiled for.

    Raises:
        ConfigError: if robot or model are missing or do not fit.
    """
    config = load_robot(robot)
    arm = arm_of(config)
    if scene_info:
        plant = build_plant(Path(scene_model), snapshot_ring)
        scene = SceneInfo.load(Path(scene_info))
        return SimulatedRobot(
            robot=config, arm=arm, plant=plant, scene=scene, finger_joints=_FR3_FINGERS
        )
    if scene_model:
        plant = build_arm_plant(Path(scene_model), config.joint_names, snapshot_ring)
    else:
        with tempfile.TemporaryDirectory(prefix="vla_ros_") as folder:
            model = _compile(robot, config.name, Path(folder), rate_hz)
            plant = build_arm_plant(model, config.joint_names, snapshot_ring)
    if abs(plant.timestep_s * rate_hz - 1.0) > 1e-6:
        raise ConfigError(
            f"the model of {config.name} has steps of {plant.timestep_s:g} s, one tick at "
            f"{rate_hz:g} Hz needs {1.0 / rate_hz:g} s: compile it for that rate"
        )
    return SimulatedRobot(robot=config, arm=arm, plant=plant, scene=None, finger_joints=())


def _compile(robot: str, name: str, folder: Path, rate_hz: float) -> Path:
    command = [sys.executable, "-m", "vla_ros.sim.prepare", robot, str(folder), str(rate_hz)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_COMPILE_LIMIT_S
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ConfigError(f"the model of {name} cannot be compiled: {lines[-1]}")
    return folder / f"{name}.mjb"
