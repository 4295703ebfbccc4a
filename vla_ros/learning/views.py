# SPDX-License-Identifier: Apache-2.0
"""What of the camera images the model sees, and where on the table its cells look.

The model is handed whole images of 224 x 224 and takes from them:

    scene  rows 96 to 207, all columns: the table. Cells of 4 x 4 px, 28 x 56 of them
    wrist  rows 0 to 207, averaged over 4 x 4 px: 52 x 56

The last rows, which carry the tick code of the simulation, are never seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError
from vla_ros.perception.camera_config import SCENE_CAMERA, CameraConfig

SIDE_PX = 224
SCENE_ROWS = (96, 208)
CELL_PX = 4
SCENE_SHAPE = (SCENE_ROWS[1] - SCENE_ROWS[0], SIDE_PX)
CELLS = (SCENE_SHAPE[0] // CELL_PX, SCENE_SHAPE[1] // CELL_PX)
WRIST_BOX_PX = 4
WRIST_SHAPE = (52, 56)

# Half the height of a cube: the plane on which the cells are located.
PLANE_Z_M = 0.02


def crop_scene(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the part (112, 224, 3) of a scene image that the model sees."""
    _check(rgb)
    return np.ascontiguousarray(rgb[SCENE_ROWS[0] : SCENE_ROWS[1]])


def shrink_wrist(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the wrist image (52, 56, 3): averages of 4 x 4 px."""
    _check(rgb)
    rows, columns = WRIST_SHAPE
    seen = rgb[: rows * WRIST_BOX_PX]
    return np.asarray(cv2.resize(seen, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def camera_pose(camera: CameraConfig) -> NDArray[np.float64]:
    """Return the pose (4, 4) of the optical frame (z forward, x right, y down) in its parent."""
    position, target = np.array(camera.position_m), np.array(camera.look_at_m)
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, np.array(camera.up))
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    T[:3, 3] = position
    return T


def table_grid(camera: CameraConfig = SCENE_CAMERA) -> NDArray[np.float32]:
    """Return where on the plane z = ``PLANE_Z_M`` the cells look (28, 56, 2): x, y in base [m]."""
    rows, columns = np.mgrid[: CELLS[0], : CELLS[1]]
    u = (columns + 0.5) * CELL_PX
    v = SCENE_ROWS[0] + (rows + 0.5) * CELL_PX
    k, T = camera.intrinsics, camera_pose(camera)
    rays = np.stack([(u - k.cx) / k.fx, (v - k.cy) / k.fy, np.ones(CELLS)], axis=-1)
    directions = rays @ T[:3, :3].T
    distance = (PLANE_Z_M - T[2, 3]) / directions[..., 2]
    points = T[:3, 3] + distance[..., None] * directions
    return np.ascontiguousarray(points[..., :2], dtype=np.float32)


def cell_of(points: NDArray[np.floating], camera: CameraConfig = SCENE_CAMERA) -> NDArray[np.int64]:
    """Return the number of the cell (n,) that shows each point (n, 3) in base [m]; -1 outside."""
    T, k = camera_pose(camera), camera.intrinsics
    seen = (points - T[:3, 3]) @ T[:3, :3]
    depth = np.maximum(seen[:, 2], 1e-6)
    column = np.floor((k.fx * seen[:, 0] / depth + k.cx) / CELL_PX)
    row = np.floor((k.fy * seen[:, 1] / depth + k.cy - SCENE_ROWS[0]) / CELL_PX)
    inside = (row >= 0) & (row < CELLS[0]) & (column >= 0) & (column < CELLS[1])
    cells = np.where(inside, row * CELLS[1] + column, -1)
    return np.asarray(cells, dtype=np.int64)


def _check(rgb: NDArray[np.uint8]) -> None:
    if rgb.shape != (SIDE_PX, SIDE_PX, 3) or rgb.dtype != np.uint8:
        raise ShapeError(
            f"the model sees uint8 images of ({SIDE_PX}, {SIDE_PX}, 3), got {rgb.dtype} {rgb.shape}"
        )
