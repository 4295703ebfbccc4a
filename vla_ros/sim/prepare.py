# SPDX-License-Identifier: Apache-2.0
"""Compiles the scene or a bare arm once per run, so that no other process has to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vla_ros.embodiment.robot import RobotConfig, load_robot


@dataclass(frozen=True)
class SceneFiles:
    """Where a compiled scene lies: the model for MuJoCo and its description for everyone else.

    Attributes:
        info: None for a bare arm, around which there is nothing to describe.
    """

    model: Path
    info: Path | None


def prepare_scene(folder: Path) -> SceneFiles:
    """Compile the FR3 scene into ``folder`` and return its files.

    Raises:
        ConfigError: if model files are missing.
    """
    # Imported here: whoever only wants the paths' type does not load MuJoCo.
    from vla_ros.sim.scene import build_scene, describe_scene, save_model

    folder.mkdir(parents=True, exist_ok=True)
    model = build_scene()
    files = SceneFiles(folder / "scene.mjb", info := folder / "scene.json")
    save_model(model, files.model)
    describe_scene(model).save(info)
    return files


def prepare_arm(
    folder: Path,
    robot: RobotConfig,
    rate_hz: float | None = None,
    surface_z_m: float | None = None,
) -> SceneFiles:
    """Compile the bare arm of a robot into ``folder`` and return its file.

    Args:
        folder: made if it is not there.
        robot: what its file says.
        rate_hz: control rate, one physics step per tick; None: that of the robot file.
        surface_z_m: height of a surface under the end effector [m]; None: none.

    Raises:
        ConfigError: if the URDF is missing or cannot be read.
    """
    from vla_ros.sim.arms import build_arm
    from vla_ros.sim.scene import save_model

    folder.mkdir(parents=True, exist_ok=True)
    over = "" if surface_z_m is None else "_surface"
    files = SceneFiles(folder / f"{robot.name}{over}.mjb", None)
    model = build_arm(robot, 1.0 / (rate_hz or robot.control.rate_hz), surface_z_m)
    save_model(model, files.model)
    return files


def prepare(folder: Path, scene: str, robot: str) -> SceneFiles:
    """Compile what a bringup names.

    Raises:
        ConfigError: if model files are missing.
    """
    return prepare_scene(folder) if scene == "table" else prepare_arm(folder, load_robot(robot))


if __name__ == "__main__":
    prepare_arm(Path(sys.argv[2]), load_robot(sys.argv[1]), float(sys.argv[3]))
