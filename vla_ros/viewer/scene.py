# SPDX-License-Identifier: Apache-2.0
"""The live view: a viser server with the robot, the table, camera images and numbers.

Knows no ROS and no clock: the caller sets poses, images and numbers at the rate it likes.
Everything set is shared by all browsers; one that connects later sees the present state at once.
"""

from __future__ import annotations

import html
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import trimesh
import viser
import viser.uplot
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.viewer.robot_model import RobotModel

Array = NDArray[np.float64]
Rgb = tuple[int, int, int]

_TABLE: Rgb = (204, 196, 184)
_ROBOT: Rgb = (214, 218, 224)
_DARK: Rgb = (62, 66, 72)
_BLANK = np.full((90, 120, 3), 40, dtype=np.uint8)
_AGE_POINTS = 150
COLOURS: Mapping[str, Rgb] = {
    "red": (214, 52, 52),
    "green": (52, 160, 82),
    "blue": (52, 96, 214),
    "yellow": (232, 190, 44),
    "purple": (138, 76, 176),
    "cyan": (58, 178, 190),
}


@dataclass(frozen=True, kw_only=True)
class ViewerConfig:
    """Where the view is served and what it shows.

    Attributes:
        host: address to bind to; the view has no password, so it stays on this machine by default.
        port: first port to try; 0 for any free one.
        cameras: names of the images, in order.
        table_m: x min, x max, y min, y max of the table top [m].
    """

    host: str = "127.0.0.1"
    port: int = 8080
    cameras: tuple[str, ...] = ("scene_camera", "wrist_camera")
    table_m: tuple[float, float, float, float] = (0.1, 0.9, -0.5, 0.5)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be within 0..65535, got {self.port}")
        if self.table_m[0] >= self.table_m[1] or self.table_m[2] >= self.table_m[3]:
            raise ConfigError(f"table_m must be x min, x max, y min, y max, got {self.table_m}")


@dataclass(frozen=True, kw_only=True)
class ViewNumbers:
    """What the panel shows; NaN is shown as "n/a".

    Attributes:
        control_hz, fast_hz, slow_hz: rates of the three loops.
        latent_age_ms: age of the image that the newest action chunk was computed from.
    """

    control_hz: float = math.nan
    fast_hz: float = math.nan
    slow_hz: float = math.nan
    latent_age_ms: float = math.nan
    mode: str = ""
    reason: str = ""
    phase: str = ""
    instruction: str = ""
    success: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


class LiveView:
    """A running viser server. Thread-safety: one caller.

    Args:
        model: the robot to draw.
        config: address and contents.
    """

    def __init__(self, model: RobotModel, config: ViewerConfig | None = None) -> None:
        self.config = config or ViewerConfig()
        # viser takes the next free port by itself when this one is taken.
        self._server = viser.ViserServer(
            host=self.config.host, port=self.config.port, label="vla_ros", verbose=False
        )
        self._model = model
        self._joint_frames: dict[str, list[tuple[int, viser.FrameHandle]]] = {}
        self._objects: dict[str, viser.SceneNodeHandle] = {}
        self._ages: deque[tuple[float, float]] = deque(maxlen=_AGE_POINTS)
        self._build_world()
        self._build_robot()
        self._build_panel()

    @property
    def url(self) -> str:
        """Address to open in a browser."""
        return f"http://{self.config.host}:{self._server.get_port()}"

    def has_viewers(self) -> bool:
        """Return whether any browser is connected; without one, updates are wasted."""
        return bool(self._server.get_clients())

    def viewer_count(self) -> int:
        """Return how many browsers are connected."""
        return len(self._server.get_clients())

    def add_box(self, name: str, side_m: float, colour: Rgb) -> None:
        """Add a cube, to be placed by ``update``."""
        size = (side_m, side_m, side_m)
        self._objects[name] = self._server.scene.add_box(
            f"/objects/{name}", color=colour, dimensions=size
        )

    def add_bowl(
        self,
        name: str,
        inner_m: float,
        outer_m: float,
        height_m: float,
        floor_m: float,
        colour: Rgb,
    ) -> None:
        """Add a round bowl (inner and outer radius, height, floor thickness [m]), origin below."""
        profile = np.array(
            [
                (0, 0),
                (outer_m, 0),
                (outer_m, height_m),
                (inner_m, height_m),
                (inner_m, floor_m),
                (0, floor_m),
            ]
        )
        mesh = trimesh.creation.revolve(profile, sections=40)
        self._objects[name] = self._add_mesh(f"/objects/{name}", mesh, colour)

    def update(
        self,
        joints: Mapping[str, float] | None = None,
        objects: Mapping[str, tuple[Array, Array]] | None = None,
    ) -> None:
        """Move the robot and the objects, in one message to every browser.

        Args:
            joints: position per joint name [rad or m]; unknown names are ignored.
            objects: position (3,) [m] and quaternion (4,) xyzw in base, per name added before.
        """
        with self._server.atomic():
            for name, value in (joints or {}).items():
                for index, frame in self._joint_frames.get(name, ()):
                    position, quat = self._model.links[index].pose_at(value)
                    frame.position = position
                    frame.wxyz = to_wxyz(quat)
            for name, (position, quat) in (objects or {}).items():
                handle = self._objects.get(name)
                if handle is not None:
                    handle.position = position
                    handle.wxyz = to_wxyz(quat)

    def set_image(self, camera: str, rgb: NDArray[np.uint8]) -> None:
        """Show an image (height, width, 3) of a camera named in the configuration."""
        handle = self._images.get(camera)
        if handle is not None:
            handle.image = rgb

    def set_numbers(self, numbers: ViewNumbers, t_s: float) -> None:
        """Show the panel's numbers and add a point to the chart of the latent's age at ``t_s``."""
        with self._server.atomic():
            self._show_numbers(numbers, t_s)

    def _show_numbers(self, numbers: ViewNumbers, t_s: float) -> None:
        self._panel.content = render_panel(numbers)
        if math.isfinite(numbers.latent_age_ms):
            self._ages.append((t_s, numbers.latent_age_ms))
            points = np.array(self._ages)
            self._chart.data = (points[:, 0], points[:, 1])

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def _build_world(self) -> None:
        scene = self._server.scene
        scene.set_up_direction("+z")
        scene.configure_environment_map(hdri=None)  # the maps are fetched from the internet
        scene.add_light_hemisphere("/lights/sky", intensity=0.6)
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.fov = (1.45, 0.75, 0.8), (0.32, 0.0, 0.2), 0.8
        x0, x1, y0, y1 = self.config.table_m
        thickness = 0.02
        scene.add_box(
            "/table",
            color=_TABLE,
            dimensions=(x1 - x0, y1 - y0, thickness),
            position=((x0 + x1) / 2, (y0 + y1) / 2, -thickness / 2),
        )
        scene.add_grid("/floor", width=3.0, height=3.0, cell_size=0.1, position=(0, 0, -thickness))

    def _build_robot(self) -> None:
        for index, link in enumerate(self._model.links):
            path = self._model.scene_path(link)
            position, quat = link.pose_at(0.0)
            frame = self._server.scene.add_frame(
                path, show_axes=False, position=position, wxyz=to_wxyz(quat)
            )
            if link.joint is not None:
                self._joint_frames.setdefault(link.joint, []).append((index, frame))
            for i, mesh in enumerate(link.meshes):
                loaded = trimesh.load_mesh(mesh.path)
                colour = _DARK if "hand" in link.name or "finger" in link.name else _ROBOT
                handle = self._add_mesh(f"{path}/mesh_{i}", loaded, colour)
                handle.position = mesh.position
                handle.wxyz = to_wxyz(mesh.quat_xyzw)

    def _add_mesh(self, path: str, mesh: trimesh.Trimesh, colour: Rgb) -> viser.SceneNodeHandle:
        return self._server.scene.add_mesh_simple(
            path, mesh.vertices, mesh.faces, color=colour, flat_shading=False
        )

    def _build_panel(self) -> None:
        gui = self._server.gui
        # The share button would tunnel the view to a public server.
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        self._panel = gui.add_html(render_panel(ViewNumbers()))
        x: viser.uplot.Series = {"label": "s"}
        y: viser.uplot.Series = {"label": "latent age [ms]", "stroke": "#2f7fd6", "width": 1.5}
        empty = np.array([0.0]), np.array([0.0])
        self._chart = gui.add_uplot(
            empty, (x, y), height=150, scales={"x": {"time": False}}, legend={"show": False}
        )
        self._images = {
            name: gui.add_image(
                _BLANK, label=name.replace("_", " "), format="jpeg", jpeg_quality=75
            )
            for name in self.config.cameras
        }


def render_panel(numbers: ViewNumbers) -> str:
    """Return the numbers as HTML for the side panel; every text is escaped."""
    mark = "✔ success" if numbers.success else ""
    mode = f"{numbers.mode} ({numbers.reason})" if numbers.reason else numbers.mode
    rows: Sequence[tuple[str, str]] = (
        ("control", _number(numbers.control_hz, "Hz")),
        ("fast loop", _number(numbers.fast_hz, "Hz", 1)),
        ("slow loop", _number(numbers.slow_hz, "Hz", 1)),
        ("latent age", _number(numbers.latent_age_ms, "ms")),
        ("mode", mode or "n/a"),
        ("phase", numbers.phase or "n/a"),
        *numbers.extra.items(),
    )
    cells = "".join(
        f'<tr><td style="opacity:.65;padding-right:1em">{html.escape(name)}</td>'
        f'<td style="font-variant-numeric:tabular-nums">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return (
        '<div style="padding:.2em .9em .6em;font-size:.86em">'
        f'<div style="font-weight:600">{html.escape(numbers.instruction) or "no instruction"}</div>'
        f'<div style="color:#23895a;font-weight:600;min-height:1.4em">{mark}</div>'
        f"<table>{cells}</table></div>"
    )


def to_wxyz(quat_xyzw: Array) -> Array:
    """Return viser's component order."""
    return np.array([quat_xyzw[3], quat_xyzw[0], quat_xyzw[1], quat_xyzw[2]])


def _number(value: float, unit: str, digits: int = 0) -> str:
    return f"{value:.{digits}f} {unit}" if math.isfinite(value) else "n/a"
