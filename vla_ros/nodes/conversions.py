# SPDX-License-Identifier: Apache-2.0
"""Between our value types and ROS messages; lossless where both can say the same."""

from __future__ import annotations

import array
import struct
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Pose, TransformStamped, Twist
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vla_ros_msgs.msg import LatencyStamp as LatencyStampMsg
from vla_ros_msgs.msg import Latent as LatentMsg
from vla_ros_msgs.msg import NamedTensor

from vla_ros.embodiment.urdf_tree import LinkTransform
from vla_ros.errors import ShapeError
from vla_ros.latency.codec import Tensors
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import CameraFrame, Latent

_STAMP_FIELDS = tuple(f.name for f in fields(LatencyStamp))
# Header of compressed_depth_image_transport: format INV_DEPTH = 1 with two parameters; zeros for
# 16-bit millimetres, which need none.
_COMPRESSED_DEPTH_HEADER = struct.pack("<iff", 0, 0.0, 0.0)
_JPEG = [int(cv2.IMWRITE_JPEG_QUALITY), 90]
_PNG = [int(cv2.IMWRITE_PNG_COMPRESSION), 1]


def stamp_to_msg(stamp: LatencyStamp) -> LatencyStampMsg:
    """Return the message with the same fields."""
    message = LatencyStampMsg()
    for name in _STAMP_FIELDS:
        value = getattr(stamp, name)
        if name == "clock_id":
            message.clock_id = np.frombuffer(value, dtype=np.uint8)
        elif name == "confidence":
            message.confidence = float(value)
        else:
            setattr(message, name, int(value))
    return message


def stamp_from_msg(message: LatencyStampMsg) -> LatencyStamp:
    """Return the stamp with the same fields.

    Raises:
        ShapeError: if kind or clock domain is unknown or the confidence is not finite.
    """
    values: dict[str, Any] = {name: getattr(message, name) for name in _STAMP_FIELDS}
    values["clock_id"] = bytes(np.asarray(message.clock_id, dtype=np.uint8))
    return LatencyStamp.from_values(values)


def tensors_to_msg(tensors: Tensors) -> list[NamedTensor]:
    """Return one message per tensor."""
    return [
        NamedTensor(
            name=name,
            dtype=value.dtype.name,
            shape=list(value.shape),
            data=_to_array(_little_endian_bytes(value)),
        )
        for name, value in tensors.items()
    ]


def tensors_from_msg(messages: list[NamedTensor]) -> dict[str, NDArray[np.generic]]:
    """Return the tensors by name.

    Raises:
        ShapeError: if the bytes do not fit type and shape, or two have the same name.
    """
    tensors: dict[str, NDArray[np.generic]] = {}
    for message in messages:
        if message.name in tensors:
            raise ShapeError(f"two tensors are named {message.name!r}")
        try:
            dtype = np.dtype(message.dtype).newbyteorder("<")
            values = np.frombuffer(memoryview(message.data).toreadonly(), dtype=dtype)
            tensors[message.name] = values.reshape(tuple(message.shape))
        except (TypeError, ValueError) as error:
            raise ShapeError(f"tensor {message.name!r}: {error}") from error
    return tensors


def latent_to_msg(latent: Latent) -> LatentMsg:
    """Return the message; its header is left to whoever knows ROS time."""
    return LatentMsg(stamp=stamp_to_msg(latent.stamp), tensors=tensors_to_msg(latent.tensors))


def latent_from_msg(message: LatentMsg) -> Latent:
    """Return the latent.

    Raises:
        ShapeError: if stamp or tensors make no sense.
    """
    return Latent(tensors=tensors_from_msg(message.tensors), stamp=stamp_from_msg(message.stamp))


def pose_to_msg(position: Iterable[float], quat_xyzw: Iterable[float]) -> Pose:
    """Return a Pose of position (3,) [m] and quaternion (4,) xyzw."""
    message = Pose()
    p, q = message.position, message.orientation
    p.x, p.y, p.z = (float(v) for v in position)
    q.x, q.y, q.z, q.w = (float(v) for v in quat_xyzw)
    return message


def twist_to_msg(values: Iterable[float]) -> Twist:
    """Return six numbers, linear first, as a Twist."""
    message = Twist()
    v, w = message.linear, message.angular
    v.x, v.y, v.z, w.x, w.y, w.z = (float(x) for x in values)
    return message


def twist_from_msg(message: Twist) -> NDArray[np.float64]:
    """Return the numbers (6,) of a Twist, linear first."""
    v, w = message.linear, message.angular
    return np.array([v.x, v.y, v.z, w.x, w.y, w.z])


def transform_to_msg(transform: LinkTransform, stamp: Any) -> TransformStamped:
    """Return a TransformStamped at ROS time ``stamp``."""
    message = TransformStamped()
    message.header.stamp, message.header.frame_id = stamp, transform.parent
    message.child_frame_id = transform.child
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = (float(v) for v in transform.position)
    r.x, r.y, r.z, r.w = (float(v) for v in transform.quat_xyzw)
    return message


def camera_info_to_msg(frame: CameraFrame, stamp: Any, frame_id: str) -> CameraInfo:
    """Return the calibration; no distortion."""
    k = frame.intrinsics
    message = CameraInfo(width=k.width, height=k.height, distortion_model="plumb_bob")
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.d = [0.0] * 5
    message.k = [k.fx, 0.0, k.cx, 0.0, k.fy, k.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [k.fx, 0.0, k.cx, 0.0, 0.0, k.fy, k.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def depth_to_millimetres(depth_m: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return depth as REP 118's 16UC1: millimetres, 0 for unknown and for beyond 65 m."""
    millimetres = np.rint(depth_m * 1000.0)
    millimetres[(millimetres > 65535) | ~np.isfinite(millimetres)] = 0
    return millimetres.astype(np.uint16)


def image_to_msg(pixels: NDArray[Any], encoding: str, stamp: Any, frame_id: str) -> Image:
    """Return a raw Image of (h, w) or (h, w, 3) pixels."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=pixels.strides[0])
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.data = _to_array(pixels.tobytes())
    return message


def jpeg_to_msg(rgb: NDArray[np.uint8], stamp: Any, frame_id: str) -> CompressedImage:
    """Return the JPEG of an RGB image, as image_transport's ``compressed`` publishes it."""
    _, encoded = cv2.imencode(".jpg", rgb[:, :, ::-1], _JPEG)
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.data = _to_array(encoded.tobytes())
    return message


def depth_png_to_msg(depth_mm: NDArray[np.uint16], stamp: Any, frame_id: str) -> CompressedImage:
    """Return the PNG of a depth image, as image_transport's ``compressedDepth`` publishes it."""
    _, encoded = cv2.imencode(".png", depth_mm, _PNG)
    message = CompressedImage(format="16UC1; compressedDepth png")
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.data = _to_array(_COMPRESSED_DEPTH_HEADER + encoded.tobytes())
    return message


def _little_endian_bytes(value: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return values.reshape(-1).view(np.uint8)


def _to_array(data: Any) -> Any:
    # array('B') is taken over as it is; any other sequence is checked byte by byte in Python.
    values = array.array("B")
    values.frombytes(data)
    return values
