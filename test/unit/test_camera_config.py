# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import pytest

from vla_ros.errors import ConfigError
from vla_ros.perception.camera_config import FR3_CAMERAS, SCENE_CAMERA


def test_intrinsics_span_the_field_of_view() -> None:
    k = SCENE_CAMERA.intrinsics
    assert math.degrees(2 * math.atan(k.height / 2 / k.fy)) == pytest.approx(SCENE_CAMERA.fovy_deg)
    assert (k.cx, k.cy) == (112.0, 112.0)


def test_cameras_have_distinct_names() -> None:
    assert len({camera.name for camera in FR3_CAMERAS}) == len(FR3_CAMERAS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("fovy_deg", 5.0),
        ("width", 100),
        ("height", 4000),
        ("rate_hz", 0.0),
        ("look_at_m", SCENE_CAMERA.position_m),
    ],
)
def test_config_out_of_range_raises(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(SCENE_CAMERA, **{field: value})  # type: ignore[arg-type]
