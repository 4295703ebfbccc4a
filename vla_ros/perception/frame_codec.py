# SPDX-License-Identifier: Apache-2.0
"""A camera frame as bytes, for the shared-memory ring between the camera and its readers.

Layout, little endian: a header of 256 bytes, the colours row by row, padding to a multiple of 8,
the depths (float32) if there are any. Unpacking copies nothing: the arrays look into the bytes.
"""

from __future__ import annotations

import struct

import numpy as np

from vla_ros.errors import ShapeError
from vla_ros.types import CameraFrame, CameraIntrinsics

FRAME_MAGIC = 0x4D464C56  # "VLFM"
FRAME_VERSION = 1
HEADER_BYTES = 256
MAX_SIDE_PX = 4096
MAX_NAME_BYTES = 32

_FLAG_DEPTH = 1
# magic, version, flags, width, height, capture_ns, fx fy cx cy, T_base_camera by rows, name
_HEADER = struct.Struct(f"<IHHIIq4d16d{MAX_NAME_BYTES}s")


def frame_bytes(width: int, height: int, has_depth: bool = True) -> int:
    """Return the size of a packed frame [bytes]."""
    return _depth_offset(width, height) + (4 * width * height if has_depth else 0)


def pack_frame(frame: CameraFrame, out: bytearray | None = None) -> bytearray:
    """Write a frame into ``out``, or into a new buffer, and return that buffer.

    A buffer that is used again saves the allocation; it must not be smaller than the frame.

    Raises:
        ShapeError: if the name is longer than 32 bytes, or ``out`` is too small.
    """
    k = frame.intrinsics
    name = frame.name.encode()
    if len(name) > MAX_NAME_BYTES:
        raise ShapeError(f"a camera name has at most {MAX_NAME_BYTES} bytes, got {len(name)}")
    size = frame_bytes(k.width, k.height, frame.depth_m is not None)
    buffer = bytearray(size) if out is None else out
    if len(buffer) < size:
        raise ShapeError(f"the frame needs {size} bytes, the buffer has {len(buffer)}")
    flags = _FLAG_DEPTH if frame.depth_m is not None else 0
    head = (FRAME_MAGIC, FRAME_VERSION, flags, k.width, k.height, frame.capture_ns)
    pose = frame.T_base_camera.astype(np.float64).ravel()
    _HEADER.pack_into(buffer, 0, *head, k.fx, k.fy, k.cx, k.cy, *pose, name)
    pixels = k.width * k.height
    np.frombuffer(buffer, np.uint8, 3 * pixels, HEADER_BYTES)[:] = frame.rgb.ravel()
    if frame.depth_m is not None:
        offset = _depth_offset(k.width, k.height)
        np.frombuffer(buffer, "<f4", pixels, offset)[:] = frame.depth_m.ravel()
    return buffer


def unpack_frame(payload: bytes | bytearray | memoryview) -> CameraFrame:
    """Read a frame; longer payloads are allowed, as slots of a ring have one size.

    Raises:
        ShapeError: if the bytes are not a frame of this version, or are too short, or hold
            calibration that is not finite.
    """
    if len(payload) < HEADER_BYTES:
        raise ShapeError(f"a frame has at least {HEADER_BYTES} bytes, got {len(payload)}")
    fields = _HEADER.unpack_from(payload)
    magic, version, flags, width, height, capture_ns = fields[:6]
    if magic != FRAME_MAGIC or version != FRAME_VERSION:
        raise ShapeError(f"not a camera frame of version {FRAME_VERSION}: {magic:#x}, {version}")
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise ShapeError(f"image sides must be 1..{MAX_SIDE_PX} px, got {width} x {height}")
    has_depth = bool(flags & _FLAG_DEPTH)
    if len(payload) < frame_bytes(width, height, has_depth):
        raise ShapeError(f"a {width} x {height} frame is cut off after {len(payload)} bytes")
    calibration = np.array(fields[6:26])
    if not np.isfinite(calibration).all():
        raise ShapeError("intrinsics or pose of the camera are not finite")
    fx, fy, cx, cy = (float(value) for value in calibration[:4])
    pixels = width * height
    depth = None
    if has_depth:
        depth = np.frombuffer(payload, np.float32, pixels, _depth_offset(width, height))
        depth = depth.reshape(height, width)
    return CameraFrame(
        name=fields[26].rstrip(b"\0").decode(errors="replace"),
        rgb=np.frombuffer(payload, np.uint8, 3 * pixels, HEADER_BYTES).reshape(height, width, 3),
        depth_m=depth,
        intrinsics=CameraIntrinsics(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy),
        T_base_camera=calibration[4:].reshape(4, 4),
        capture_ns=capture_ns,
    )


def _depth_offset(width: int, height: int) -> int:
    return HEADER_BYTES + (3 * width * height + 7) // 8 * 8
