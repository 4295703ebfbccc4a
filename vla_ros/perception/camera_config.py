# SPDX-License-Identifier: Apache-2.0
"""Where the cameras of a cell are and how large their images are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_ros.errors import ConfigError
from vla_ros.types import CameraIntrinsics

MIN_IMAGE_WIDTH = 192  # the tick code needs 48 blocks of 4 px


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One pinhole camera, looking from ``position_m`` towards ``look_at_m``.

    Attributes:
        name: camera name; the optical frame is ``<name>_optical_frame``.
        parent: body that carries the camera; positions are expressed in its frame [m].
        up: direction that appears upwards in the image, expressed in the parent frame.
        fovy_deg: vertical field of view [deg], 10 to 120.
        rate_hz: images per second.
    """

    name: str
    parent: str
    position_m: tuple[float, float, float]
    look_at_m: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    fovy_deg: float = 48.0
    width: int = 224
    height: int = 224
    rate_hz: float = 20.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("camera name must not be empty")
        if not 10.0 <= self.fovy_deg <= 120.0:
            raise ConfigError(f"{self.name}: fovy_deg must be 10..120, got {self.fovy_deg}")
        for field, value, low in (
            ("width", self.width, MIN_IMAGE_WIDTH),
            ("height", self.height, 32),
        ):
            if not low <= value <= 1920:
                raise ConfigError(f"{self.name}: {field} must be {low}..1920, got {value}")
        if not 0.1 <= self.rate_hz <= 120.0:
            raise ConfigError(f"{self.name}: rate_hz must be 0.1..120, got {self.rate_hz}")
        if math.dist(self.position_m, self.look_at_m) < 1e-3:
            raise ConfigError(
                f"{self.name}: look_at_m must differ from position_m {self.position_m}"
            )

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """Pinhole parameters with square pixels and the optical centre in the middle."""
        focal = 0.5 * self.height / math.tan(math.radians(self.fovy_deg) / 2)
        return CameraIntrinsics(
            width=self.width,
            height=self.height,
            fx=focal,
            fy=focal,
            cx=self.width / 2,
            cy=self.height / 2,
        )


SCENE_CAMERA = CameraConfig(
    name="scene_camera",
    parent="base",
    position_m=(1.15, 0.0, 0.85),
    look_at_m=(0.27, 0.0, 0.0),
    fovy_deg=45.0,
)
WRIST_CAMERA = CameraConfig(
    name="wrist_camera",
    parent="hand",
    position_m=(0.075, 0.0, 0.02),
    look_at_m=(0.005, 0.0, 0.16),
    up=(1.0, 0.0, 0.0),
    fovy_deg=70.0,
)
FR3_CAMERAS = (SCENE_CAMERA, WRIST_CAMERA)
