# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_cell import draw_cell

from vla_ros.errors import ShapeError
from vla_ros.perception.frame_codec import frame_bytes, pack_frame, unpack_frame
from vla_ros.sim.tasks import sample_layout
from vla_ros.types import CameraFrame, CameraIntrinsics

FRAME = draw_cell(sample_layout(1), capture_ns=123_456_789_012)


def _assert_same(a: CameraFrame, b: CameraFrame) -> None:
    assert (a.name, a.intrinsics, a.capture_ns) == (b.name, b.intrinsics, b.capture_ns)
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.T_base_camera, b.T_base_camera)
    if a.depth_m is None:
        assert b.depth_m is None
    else:
        np.testing.assert_array_equal(a.depth_m, b.depth_m)


@pytest.mark.parametrize("has_depth", [True, False])
def test_round_trip_is_exact(has_depth: bool) -> None:
    frame = FRAME if has_depth else dataclasses.replace(FRAME, depth_m=None)
    packed = pack_frame(frame)
    assert len(packed) == frame_bytes(224, 224, has_depth)
    _assert_same(unpack_frame(packed), frame)
    _assert_same(unpack_frame(bytes(packed) + b"rest of the slot"), frame)


def test_round_trip_odd_size_keeps_depth_aligned() -> None:
    frame = CameraFrame(
        name="odd",
        rgb=np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3),
        depth_m=np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5),
        intrinsics=CameraIntrinsics(width=5, height=3, fx=1.0, fy=2.0, cx=3.0, cy=4.0),
        T_base_camera=np.eye(4),
        capture_ns=-1,
    )
    _assert_same(unpack_frame(pack_frame(frame)), frame)


def test_pack_into_used_buffer_allocates_nothing_new() -> None:
    buffer = bytearray(frame_bytes(224, 224))
    assert pack_frame(FRAME, buffer) is buffer
    _assert_same(unpack_frame(buffer), FRAME)


def test_unpack_does_not_copy_the_pixels() -> None:
    packed = pack_frame(FRAME)
    frame = unpack_frame(packed)
    packed[256] ^= 0xFF
    assert frame.rgb[0, 0, 0] == packed[256]


def test_pack_too_small_buffer_or_long_name_raises() -> None:
    with pytest.raises(ShapeError, match="bytes"):
        pack_frame(FRAME, bytearray(100))
    with pytest.raises(ShapeError, match="name"):
        pack_frame(dataclasses.replace(FRAME, name="x" * 33))


@pytest.mark.parametrize(
    ("offset", "replacement"),
    [
        (0, b"XXXX"),
        (4, b"\x09\x00"),
        (8, b"\0" * 4),
        (12, b"\xff" * 4),
        (24, struct.pack("<d", float("nan"))),
        (56, struct.pack("<d", float("inf"))),
    ],
)
def test_unpack_damaged_header_raises(offset: int, replacement: bytes) -> None:
    packed = pack_frame(FRAME)
    packed[offset : offset + len(replacement)] = replacement
    with pytest.raises(ShapeError):
        unpack_frame(packed)


@pytest.mark.parametrize("size", [0, 255, 256, 1000, frame_bytes(224, 224) - 1])
def test_unpack_cut_off_raises(size: int) -> None:
    with pytest.raises(ShapeError):
        unpack_frame(pack_frame(FRAME)[:size])


@given(st.binary(max_size=600))
def test_unpack_any_bytes_raises_shape_error_only(data: bytes) -> None:
    with pytest.raises(ShapeError):
        unpack_frame(data)
