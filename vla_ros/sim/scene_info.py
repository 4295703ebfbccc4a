# SPDX-License-Identifier: Apache-2.0
"""SceneInfo: where things are in the simulation's state vector. Plain numbers, no MuJoCo needed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.geometry import make_pose, quat_xyzw_to_matrix, rotation_about_z

Array = NDArray[np.float64]

SCENE_INFO_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BowlGeometry:
    """Size of a bowl [m]: a straight wall around a flat floor."""

    inner_radius_m: float = 0.068
    outer_radius_m: float = 0.072
    height_m: float = 0.045
    floor_thickness_m: float = 0.004


@dataclass(frozen=True, kw_only=True)
class SceneInfo:
    """Addresses, sizes and the home state of a compiled scene.

    Attributes:
        nq, nv: lengths of ``qpos`` and ``qvel``.
        arm_qpos, arm_dof: addresses of the seven arm joints.
        arm_links: per arm joint the fixed transform before it: x, y, z [m], quaternion xyzw.
        tcp_link: the same from the last joint to the TCP.
        finger_qpos, finger_dof: addresses of the two finger slides [m]; their sum is the width.
        cube_qpos, cube_dof: first address of each cube's free joint (x y z, quaternion wxyz).
        bowl_qpos, bowl_dof: addresses of the x and y slide of each bowl.
        home_qpos: (nq,) arm at home, gripper open, objects parked side by side.
        arm_actuators, gripper_actuator: actuator indices; gripper ctrl is the width asked for [m].
    """

    nq: int
    nv: int
    timestep_s: float
    arm_qpos: tuple[int, ...]
    arm_dof: tuple[int, ...]
    arm_links: tuple[tuple[float, ...], ...]
    tcp_link: tuple[float, ...]
    finger_qpos: tuple[int, ...]
    finger_dof: tuple[int, ...]
    cube_qpos: dict[str, int]
    cube_dof: dict[str, int]
    bowl_qpos: dict[str, tuple[int, int]]
    bowl_dof: dict[str, tuple[int, int]]
    arm_actuators: tuple[int, ...]
    gripper_actuator: int
    home_qpos: tuple[float, ...]
    cube_side_m: float
    bowl: BowlGeometry
    gripper_max_width_m: float
    cameras: tuple[str, ...]

    def check_state(self, qpos: Array, qvel: Array | None = None) -> None:
        """Raise ``ShapeError`` unless the vectors have this scene's lengths."""
        if qpos.shape != (self.nq,):
            raise ShapeError(f"qpos must have shape ({self.nq},), got {qpos.shape}")
        if qvel is not None and qvel.shape != (self.nv,):
            raise ShapeError(f"qvel must have shape ({self.nv},), got {qvel.shape}")

    def cube_position(self, qpos: Array, colour: str) -> Array:
        """Return the centre (3,) of a cube in base [m]."""
        start = self.cube_qpos[colour]
        return np.array(qpos[start : start + 3])

    def cube_yaw(self, qpos: Array, colour: str) -> float:
        """Return the rotation of a cube about the vertical [rad], of its x axis, in (-pi, pi]."""
        start = self.cube_qpos[colour] + 3
        w, x, y, z = (float(c) for c in qpos[start : start + 4])
        return float(np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z)))

    def cube_velocity(self, qvel: Array, colour: str) -> Array:
        """Return linear and angular velocity (6,) of a cube [m/s, rad/s]."""
        start = self.cube_dof[colour]
        return np.array(qvel[start : start + 6])

    def bowl_position(self, qpos: Array, colour: str) -> Array:
        """Return the point (2,) of the table under a bowl's centre, in base [m]."""
        return np.array([qpos[i] for i in self.bowl_qpos[colour]])

    def gripper_width(self, qpos: Array) -> float:
        """Return the opening between the fingers [m]."""
        return float(sum(qpos[i] for i in self.finger_qpos))

    def tcp_pose(self, qpos: Array) -> Array:
        """Return the pose (4, 4) of the TCP in base, by forward kinematics of the arm."""
        T_base_x = np.eye(4)
        for link, address in zip(self.arm_links, self.arm_qpos, strict=True):
            T_base_x = T_base_x @ _to_pose(link)
            T_base_x[:3, :3] = T_base_x[:3, :3] @ rotation_about_z(float(qpos[address]))
        return np.asarray(T_base_x @ _to_pose(self.tcp_link))

    def to_json(self) -> str:
        """Return the JSON text that ``from_json`` reads."""
        return json.dumps({"version": SCENE_INFO_VERSION, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> SceneInfo:
        """Build from the text of ``to_json``.

        Raises:
            ConfigError: if the text is of another version or lacks a field.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            version = values.pop("version", None)
            if version != SCENE_INFO_VERSION:
                raise ConfigError(f"scene info version must be {SCENE_INFO_VERSION}, got {version}")
            values["bowl"] = BowlGeometry(**values["bowl"])
            frozen = {name: _to_tuples(value) for name, value in values.items()}
            return SceneInfo(**frozen)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ConfigError(f"not a scene info: {error}") from error

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(self.to_json(), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> SceneInfo:
        """Read a file written by ``save``; raises ``ConfigError`` if it is not one."""
        if not path.is_file():
            raise ConfigError(f"scene info file not found: {path}")
        return SceneInfo.from_json(path.read_text(encoding="utf-8"))


def _to_pose(link: tuple[float, ...]) -> Array:
    return make_pose(np.array(link[:3]), quat_xyzw_to_matrix(np.array(link[3:])))


def _to_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_to_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _to_tuples(item) for key, item in value.items()}
    return value
