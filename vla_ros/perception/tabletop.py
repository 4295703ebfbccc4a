# SPDX-License-Identifier: Apache-2.0
"""Find coloured cubes and round bowls on a table in one RGB-D image. NumPy only, no learning.

All points are expressed in the robot's base frame [m]; the table is the plane z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError
from vla_ros.geometry import transform_points
from vla_ros.types import CameraFrame

Array = NDArray[np.float64]

_MIN_SATURATION = 0.35
_MIN_VALUE = 30
_NOISE_M = 0.006  # room for depth noise and one pixel


@dataclass(frozen=True, kw_only=True)
class ColouredPoints:
    """Saturated pixels of one image that lie on or above the table.

    Attributes:
        points: (n, 3) in base [m].
        hue_deg: (n,) in [0, 360).
        camera: (3,) position of the camera in base [m].
    """

    points: Array
    hue_deg: Array
    camera: Array

    def of_hue(self, hue_deg: float, tolerance_deg: float) -> Array:
        """Return the points (m, 3) whose hue is within the tolerance, the short way round."""
        distance = np.abs((self.hue_deg - hue_deg + 180.0) % 360.0 - 180.0)
        return self.points[distance <= tolerance_deg]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """An object seen in one image.

    Attributes:
        position: (3,) in base [m]: centre of a cube; of a bowl the centre at the height of the rim.
        yaw: rotation about the vertical modulo a quarter turn, in [-pi/4, pi/4) [rad]; 0 for bowls.
        confidence: share of the expected image area that is visible, 0..1.
        seen_ns: exposure time of the image [ns].
    """

    position: Array
    yaw: float
    confidence: float
    seen_ns: int


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The box in base [m] in which objects are looked for."""

    x_m: tuple[float, float] = (0.20, 0.85)
    y_m: tuple[float, float] = (-0.50, 0.50)
    z_m: tuple[float, float] = (-0.01, 0.60)


def find_coloured_points(frame: CameraFrame, workspace: Workspace) -> ColouredPoints:
    """Back-project the saturated pixels of an image that carries depth.

    Raises:
        ShapeError: if the frame has no depth.
    """
    if frame.depth_m is None:
        raise ShapeError(f"{frame.name}: an image with depth is needed")
    high = frame.rgb.max(axis=2)
    low = frame.rgb.min(axis=2)
    mask = (high > _MIN_VALUE) & (high - low > _MIN_SATURATION * high) & (frame.depth_m > 0)
    rows, columns = np.nonzero(mask)
    depth = frame.depth_m[rows, columns].astype(np.float64)
    k = frame.intrinsics
    rays = np.column_stack(
        [(columns + 0.5 - k.cx) / k.fx, (rows + 0.5 - k.cy) / k.fy, np.ones(len(rows))]
    )
    points = transform_points(frame.T_base_camera, rays * depth[:, None])
    inside = np.ones(len(points), dtype=bool)
    for axis, (lowest, highest) in enumerate((workspace.x_m, workspace.y_m, workspace.z_m)):
        inside &= (points[:, axis] >= lowest) & (points[:, axis] <= highest)
    hue = _hue_deg(frame.rgb[rows[inside], columns[inside]].astype(np.float64))
    return ColouredPoints(points=points[inside], hue_deg=hue, camera=frame.T_base_camera[:3, 3])


def fit_cube(
    points: Array, camera: Array, side_m: float, min_points: int = 12
) -> tuple[Array, float] | None:
    """Fit an upright cube of known size to points (n, 3) of its visible faces.

    The points of the faces that look at the camera lie exactly on edges of the cube's footprint.
    The yaw is that of the smallest rectangle around all points; the centre lies half a side behind
    the edges that the camera sees.

    Returns:
        Centre (3,) in base [m] and yaw in [-pi/4, pi/4) [rad], or None when too little is seen.
    """
    points = _near_median(points, 1.2 * side_m)
    if len(points) < min_points:
        return None
    yaw = _yaw_of_smallest_rectangle(points[:, :2])
    axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])  # rows u, v
    along = points[:, :2] @ axes.T
    low, high = _extent(along)
    to_camera = axes @ (camera[:2] - points[:, :2].mean(axis=0))
    to_camera /= max(float(np.linalg.norm(to_camera)), 1e-9)
    # An edge that the camera looks at squarely is exact; one seen edge-on is cut off by pixels.
    trust = np.clip(to_camera / 0.3, -1.0, 1.0)
    centre_uv = (low + high) / 2 - trust * np.maximum(side_m - (high - low), 0.0) / 2
    top = float(np.quantile(points[:, 2], 0.97))
    z = max(top, side_m) - side_m / 2  # a cube's top below its own height is a hidden top
    return np.array([*(centre_uv @ axes), z]), yaw


def fit_bowl(
    points: Array,
    camera: Array,
    radius_m: tuple[float, float],
    rim_height_m: float,
    min_points: int = 20,
) -> Array | None:
    """Fit the centre of a round wall with known inner and outer radius to points (n, 3) of a bowl.

    On the camera's side the outer face of the wall is seen, on the far side the inner one.

    Returns:
        Centre (3,) at the height of the rim, in base [m], or None when too little is seen.
    """
    wall = points[(points[:, 2] > 0.25 * rim_height_m) & (points[:, 2] < rim_height_m + _NOISE_M)]
    inner, outer = radius_m
    wall = _near_median(wall, 3 * outer)
    if len(wall) < min_points:
        return None
    low, high = _extent(wall[:, :2])
    centre = (low + high) / 2
    for _ in range(8):
        offset = wall[:, :2] - centre
        distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
        faces_camera = np.einsum("ij,ij->i", offset, camera[:2] - wall[:, :2]) > 0
        residual = distance - np.where(faces_camera, outer, inner)
        weight = np.minimum(1.0, _NOISE_M / np.maximum(np.abs(residual), 1e-9))  # Huber
        direction = offset / distance[:, None]
        normal = (direction * weight[:, None]).T @ direction + 1e-6 * np.eye(2)
        centre = centre + np.linalg.solve(normal, direction.T @ (weight * residual))
    if np.median(np.abs(residual)) > 2 * _NOISE_M:
        return None
    return np.array([*centre, rim_height_m])


def cube_corners(centre: Array, yaw: float, side_m: float) -> Array:
    """Return the corners (8, 3) of an upright cube in base [m], the lower four first."""
    half = side_m / 2
    ring = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    c, s = np.cos(yaw), np.sin(yaw)
    ring = ring @ np.array([[c, s], [-s, c]]) + centre[:2]
    lower = np.column_stack([ring, np.full(4, centre[2] - half)])
    return np.vstack([lower, lower + np.array([0.0, 0.0, side_m])])


def ring_points(centre_xy: Array, radius_m: float, z_m: float, count: int = 24) -> Array:
    """Return points (count, 3) on a horizontal circle in base [m]."""
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return np.column_stack(
        [
            centre_xy[0] + radius_m * np.cos(angle),
            centre_xy[1] + radius_m * np.sin(angle),
            np.full(count, z_m),
        ]
    )


def project(frame: CameraFrame, points: Array) -> tuple[Array, Array]:
    """Return pixel coordinates (n, 2), x to the right and y down, and depths (n,) [m]."""
    T = frame.T_base_camera
    in_camera = (points - T[:3, 3]) @ T[:3, :3]
    depth = in_camera[:, 2]
    k = frame.intrinsics
    scale = np.array([k.fx, k.fy]) / np.maximum(depth, 1e-6)[:, None]
    return in_camera[:, :2] * scale + np.array([k.cx, k.cy]), depth


def silhouette_area_px(frame: CameraFrame, points: Array) -> float:
    """Return the image area [px] of the convex hull of points (n, 3), as if nothing hid it."""
    pixels, _ = project(frame, points)
    return _hull_area(pixels)


def fraction_seen_through(frame: CameraFrame, points: Array, margin_m: float = 0.02) -> float:
    """Return the share 0..1 of surface points (n, 3) where the camera sees something farther away.

    Near 1 means that the surface is not there; points outside the image count as not seen through.
    """
    if frame.depth_m is None:
        return 0.0
    pixels, depth = project(frame, points)
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < frame.intrinsics.width)
    inside &= (row >= 0) & (row < frame.intrinsics.height) & (depth > 0)
    seen = frame.depth_m[row[inside], column[inside]]
    return float(np.count_nonzero(seen > depth[inside] + margin_m)) / len(points)


def _hue_deg(rgb: Array) -> Array:
    """Return the hue (n,) in [0, 360) of saturated colours (n, 3)."""
    high = rgb.max(axis=1)
    span = np.maximum(high - rgb.min(axis=1), 1.0)
    red, green, blue = rgb.T
    sector = np.select(
        [high == red, high == green],
        [(green - blue) / span, 2.0 + (blue - red) / span],
        4.0 + (red - green) / span,
    )
    return np.asarray(60.0 * sector % 360.0)


def _near_median(points: Array, radius_m: float) -> Array:
    """Drop points farther than ``radius_m`` from the median in x and y: not the same object."""
    if len(points) == 0:
        return points
    offset = points[:, :2] - np.median(points[:, :2], axis=0)
    return np.asarray(points[np.einsum("ij,ij->i", offset, offset) < radius_m**2])


def _extent(values: Array) -> tuple[Array, Array]:
    """Return lower and upper bound per column without the outermost half per cent."""
    low, high = np.quantile(values, [0.005, 0.995], axis=0)
    return low, high


def _yaw_of_smallest_rectangle(xy: Array) -> float:
    """Return the yaw in [-pi/4, pi/4) of the smallest rectangle around points (n, 2)."""
    xy = xy - xy.mean(axis=0)
    best = 0.0
    for step, span in ((np.radians(3.0), np.pi / 4), (np.radians(0.3), np.radians(3.0))):
        yaws = best + np.arange(-span, span, step)
        u = np.outer(np.cos(yaws), xy[:, 0]) + np.outer(np.sin(yaws), xy[:, 1])
        v = np.outer(np.cos(yaws), xy[:, 1]) - np.outer(np.sin(yaws), xy[:, 0])
        area = np.ptp(u, axis=1) * np.ptp(v, axis=1)
        best = float(yaws[np.argmin(area)])
    return float((best + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _hull_area(pixels: Array) -> float:
    """Return the area of the convex hull of points (n, 2), by Andrew's monotone chain."""
    ordered = sorted(map(tuple, pixels.tolist()))
    hull: list[tuple[float, ...]] = []
    for chain in (ordered, ordered[::-1]):
        start = len(hull)
        for p in chain:
            while len(hull) - start >= 2 and _cross(hull[-2], hull[-1], p) <= 0:
                hull.pop()
            hull.append(p)
        hull.pop()
    x, y = np.array(hull).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _cross(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
