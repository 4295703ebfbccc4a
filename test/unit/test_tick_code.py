# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.clock import NS_PER_MS
from vla_ros.errors import ShapeError
from vla_ros.perception import tick_code


def _image(value: int = 120) -> np.ndarray:
    return np.full((224, 224, 3), value, dtype=np.uint8)


@given(st.integers(min_value=1, max_value=2**40 - 1), st.integers(min_value=0, max_value=999_999))
def test_decode_returns_the_millisecond_drawn(milliseconds: int, rest_ns: int) -> None:
    rgb = _image()
    tick_code.draw(rgb, milliseconds * NS_PER_MS + rest_ns)
    assert tick_code.decode(rgb) == milliseconds * NS_PER_MS
    assert tick_code.decode(tick_code.strip_of(rgb)) == milliseconds * NS_PER_MS


def test_draw_leaves_the_picture_above_alone() -> None:
    rgb = _image()
    tick_code.draw(rgb, 5 * NS_PER_MS)
    assert (rgb[: -tick_code.CODE_ROWS] == 120).all()
    assert (rgb[-tick_code.CODE_ROWS :, tick_code.CODE_WIDTH :] == 120).all()


@pytest.mark.parametrize("value", [0, 120, 255])
def test_decode_returns_none_without_code(value: int) -> None:
    assert tick_code.decode(_image(value)) is None


def test_decode_returns_none_for_noise() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        assert tick_code.decode(random.integers(0, 256, (8, 192, 3), dtype=np.uint8)) is None


def test_decode_detects_every_single_flipped_block() -> None:
    rgb = _image()
    tick_code.draw(rgb, 123_456_789_012 * NS_PER_MS)
    for block in range(tick_code.CODE_BLOCKS):
        damaged = rgb.copy()
        columns = slice(4 * block, 4 * block + 4)
        damaged[-8:, columns] = 255 - damaged[-8:, columns]
        assert tick_code.decode(damaged) is None


@pytest.mark.parametrize("quality", [80, 90, 95])
def test_decode_survives_jpeg(quality: int) -> None:
    random = np.random.default_rng(quality)
    for _ in range(100):
        tick_ns = int(random.integers(1, 2**40)) * NS_PER_MS
        rgb = random.integers(0, 256, (28, 28, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        tick_code.draw(rgb, tick_ns)
        _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert tick_code.decode(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]) == tick_ns


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((7, 224, 3), np.uint8),
        np.zeros((8, 191, 3), np.uint8),
        np.zeros((8, 224), np.uint8),
        np.zeros((8, 224, 3), np.float32),
    ],
)
def test_draw_and_decode_refuse_wrong_images(bad: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        tick_code.decode(bad)
    with pytest.raises(ShapeError):
        tick_code.draw(bad, 1)
