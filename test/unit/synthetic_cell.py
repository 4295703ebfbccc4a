# SPDX-License-Identifier: Apache-2.0
"""A ray caster of a table with cubes and bowls in NumPy: images for tests without MuJoCo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_ros.geometry import rotation_about_z
from vla_ros.perception.camera_config import SCENE_CAMERA
from vla_ros.policies.colors import COLOURS
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.sim.tasks import Layout
from vla_ros.types import CameraFrame, ControlMode, Observation, RobotState

SCENE_INFO = Path(__file__).parents[1] / "data" / "fr3_scene_info.json"
TABLE_RGB = (200, 198, 195)


def load_info() -> SceneInfo:
    """Return the metadata of the simulated cell, as stored beside the tests."""
    return SceneInfo.load(SCENE_INFO)


def look_at_pose(position: tuple[float, ...], target: tuple[float, ...]) -> np.ndarray:
    """Return T_base_camera (4, 4) of an optical frame that looks at a point."""
    z = np.subtract(target, position) / np.linalg.norm(np.subtract(target, position))
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    T[:3, 3] = position
    return T


def draw_cell(
    layout: Layout,
    capture_ns: int = 1,
    cube_z_m: dict[str, float] | None = None,
    hidden_columns: slice | None = None,
) -> CameraFrame:
    """Draw the cell as the scene camera sees it.

    Args:
        layout: where things stand.
        capture_ns: exposure time.
        cube_z_m: heights of cube centres that differ from resting on the table [m].
        hidden_columns: image columns covered by something grey 0.4 m in front of the camera.
    """
    k, info = SCENE_CAMERA.intrinsics, load_info()
    T = look_at_pose(SCENE_CAMERA.position_m, SCENE_CAMERA.look_at_m)
    v, u = np.mgrid[0 : k.height, 0 : k.width] + 0.5
    rays = np.stack([(u - k.cx) / k.fx, (v - k.cy) / k.fy, np.ones_like(u)], axis=-1)
    rays = rays.reshape(-1, 3) @ T[:3, :3].T
    eye = T[:3, 3]
    depth = -eye[2] / rays[:, 2]
    rgb = np.tile(np.array(TABLE_RGB, dtype=np.uint8), (len(rays), 1))
    for colour, (x, y, yaw) in layout.cubes.items():
        z = (cube_z_m or {}).get(colour, info.cube_side_m / 2)
        _paint(depth, rgb, _hit_cube(eye, rays, (x, y, z), yaw, info.cube_side_m), colour)
    for colour, (x, y) in layout.bowls.items():
        _paint(depth, rgb, _hit_bowl(eye, rays, x, y, info), colour)
    rgb, depth = rgb.reshape(k.height, k.width, 3), depth.reshape(k.height, k.width)
    if hidden_columns is not None:
        rgb[:, hidden_columns], depth[:, hidden_columns] = 90, 0.4
    return CameraFrame(
        name=SCENE_CAMERA.name,
        rgb=rgb,
        depth_m=depth.astype(np.float32),
        intrinsics=k,
        T_base_camera=T,
        capture_ns=capture_ns,
    )


def observe(instruction: str, *frames: CameraFrame, width_m: float = 0.08) -> Observation:
    """Return an observation with the arm far above the table."""
    T_base_ee = np.diag([1.0, -1.0, -1.0, 1.0])
    T_base_ee[:3, 3] = 0.3, 0.0, 0.5
    state = RobotState(
        seq=1,
        tick_ns=1,
        mode=ControlMode.HOLD,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=T_base_ee,
        twist_base=np.zeros(6),
        T_base_ref=T_base_ee,
        twist_ref_base=np.zeros(6),
        gripper_width_m=width_m,
        gripper_target_m=width_m,
    )
    return Observation(
        state=state,
        instruction=instruction,
        instruction_id=1,
        episode_id=1,
        frames={frame.name: frame for frame in frames},
    )


def _paint(depth: np.ndarray, rgb: np.ndarray, hit: np.ndarray, colour: str) -> None:
    nearer = hit < depth
    depth[nearer] = hit[nearer]
    rgb[nearer] = np.round(200 * np.array(COLOURS[colour].rgb))


def _hit_cube(eye, rays, centre, yaw: float, side: float) -> np.ndarray:
    """Distance to a cube along each ray, infinite where it is missed (slab method)."""
    R = rotation_about_z(yaw)
    local_eye, local_rays = (eye - np.array(centre)) @ R, rays @ R
    near, far = (np.array([-1.0, 1.0])[:, None, None] * side / 2 - local_eye) / local_rays
    enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _hit_bowl(eye, rays, x: float, y: float, info: SceneInfo) -> np.ndarray:
    """Distance to a round wall, its rim and the floor inside it."""
    size, hits = info.bowl, []
    for radius, sign in ((size.outer_radius_m, -1.0), (size.inner_radius_m, 1.0)):
        offset = eye[:2] - np.array([x, y])
        a = (rays[:, :2] ** 2).sum(axis=1)
        b = rays[:, :2] @ offset
        root = b**2 - a * (offset @ offset - radius**2)
        t = (-b + sign * np.sqrt(np.maximum(root, 0.0))) / a
        z = eye[2] + t * rays[:, 2]
        hits.append(np.where((root > 0) & (z >= 0) & (z <= size.height_m), t, np.inf))
    for height, low, high in (
        (size.height_m, size.inner_radius_m, size.outer_radius_m),
        (size.floor_thickness_m, 0.0, size.inner_radius_m),
    ):
        t = (height - eye[2]) / rays[:, 2]
        distance = np.linalg.norm(eye[:2] + t[:, None] * rays[:, :2] - [x, y], axis=1)
        hits.append(np.where((distance >= low) & (distance <= high), t, np.inf))
    return np.min(hits, axis=0)
