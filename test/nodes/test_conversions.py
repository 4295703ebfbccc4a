# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from stamp_samples import EXTREMES
from vla_ros_msgs.msg import LatencyStamp as StampMsg
from vla_ros_msgs.msg import Latent as LatentMsg
from vla_ros_msgs.msg import NamedTensor

from vla_ros.errors import ShapeError
from vla_ros.latency.codec import encode_tensors
from vla_ros.latency.stamp import STAMP_DTYPE, ClockDomain, LatencyStamp, StampFlags, StampKind
from vla_ros.nodes import conversions
from vla_ros.nodes.time_converter import TimeConverter
from vla_ros.types import CameraFrame, CameraIntrinsics, Latent

pytestmark = pytest.mark.ros

STAMP = Time(sec=12, nanosec=34)


def random_stamp(seed: int) -> LatencyStamp:
    """Every field at random over its whole range, as the record stores it."""
    random = np.random.default_rng(seed)
    values: dict[str, object] = {}
    for f in dataclasses.fields(LatencyStamp):
        dtype = STAMP_DTYPE[f.name]
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            values[f.name] = int(
                random.integers(limits.min, limits.max, dtype=dtype, endpoint=True)
            )
    values |= {
        "kind": StampKind(int(random.integers(len(StampKind)))),
        "clock_domain": ClockDomain(int(random.integers(len(ClockDomain)))),
        "flags": StampFlags(int(random.integers(32))),
        "clock_id": random.bytes(16),
        "confidence": float(np.float32(random.random())),
    }
    return LatencyStamp(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(50))
def test_stamp_survives_message_and_wire_unchanged(seed: int) -> None:
    stamp = random_stamp(seed)
    data = serialize_message(conversions.stamp_to_msg(stamp))
    assert conversions.stamp_from_msg(deserialize_message(data, StampMsg)) == stamp


@pytest.mark.parametrize(("name", "value"), EXTREMES)
def test_extreme_values_of_a_stamp_survive_message_and_wire(name: str, value: object) -> None:
    stamp = LatencyStamp(**({"kind": StampKind.LATENT} | {name: value}))  # type: ignore[arg-type]
    data = serialize_message(conversions.stamp_to_msg(stamp))
    assert conversions.stamp_from_msg(deserialize_message(data, StampMsg)) == stamp


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (StampMsg(kind=9), "StampKind"),
        (StampMsg(clock_domain=4), "ClockDomain"),
        (StampMsg(confidence=float("nan")), "confidence is nan"),
    ],
)
def test_stamp_message_that_makes_no_sense_is_refused(message: StampMsg, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        conversions.stamp_from_msg(message)


def test_latent_survives_message_and_wire_to_the_last_byte() -> None:
    tensors = {"a": np.arange(5, dtype=np.float16), "b": np.zeros((0, 3)), "c": np.array(True)}
    latent = Latent(tensors=tensors, stamp=random_stamp(0))
    data = serialize_message(conversions.latent_to_msg(latent))
    again = conversions.latent_from_msg(deserialize_message(data, LatentMsg))
    assert encode_tensors(again.tensors) == encode_tensors(tensors)
    assert again.stamp == latent.stamp


def test_two_tensors_of_one_name_are_refused() -> None:
    messages = conversions.tensors_to_msg({"x": np.zeros(1)}) * 2
    with pytest.raises(ShapeError, match="two tensors are named 'x'"):
        conversions.tensors_from_msg(messages)


def test_stamp_message_has_the_fields_of_the_stamp() -> None:
    names = {f.name for f in dataclasses.fields(LatencyStamp)}
    assert set(StampMsg.get_fields_and_field_types()) == names


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([1, 2**62], dtype=np.int64),
        np.arange(48, dtype=np.uint8).reshape(2, 8, 3)[:, ::2],
        np.array(3.5),
        np.zeros((0, 4)),
    ],
)
def test_tensors_survive_message_and_wire_unchanged(value: np.ndarray) -> None:
    message = conversions.tensors_to_msg({"value": value})[0]
    again = deserialize_message(serialize_message(message), NamedTensor)
    result = conversions.tensors_from_msg([again])["value"]
    np.testing.assert_array_equal(result, value)
    assert result.dtype == value.dtype


@pytest.mark.parametrize(
    "message",
    [
        NamedTensor(name="bad", dtype="float32", shape=[3], data=[0] * 8),
        NamedTensor(name="bad", dtype="float33", shape=[2], data=[0] * 8),
        NamedTensor(name="bad", dtype="float32", shape=[3], data=[0] * 7),
        NamedTensor(name="bad", dtype="O", shape=[1], data=[0] * 8),
    ],
)
def test_tensor_whose_bytes_do_not_fit_is_refused_by_name(message: NamedTensor) -> None:
    with pytest.raises(ShapeError, match="bad"):
        conversions.tensors_from_msg([message])


def test_depth_in_millimetres_is_zero_where_nothing_is_known() -> None:
    depth_m = np.array([[0.0, 0.0014, 0.0016, 65.535, 70.0, np.inf, np.nan]], dtype=np.float32)
    result = conversions.depth_to_millimetres(depth_m)
    assert result.dtype == np.uint16
    assert result.tolist() == [[0, 1, 2, 65535, 0, 0, 0]]


def test_compressed_depth_is_what_image_transport_reads() -> None:
    depth_mm = np.arange(12, dtype=np.uint16).reshape(3, 4) * 999
    message = conversions.depth_png_to_msg(depth_mm, STAMP, "camera")
    data = bytes(message.data)
    assert message.format == "16UC1; compressedDepth png"
    assert data[:12] == bytes(12)
    decoded = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, depth_mm)


def test_jpeg_keeps_red_red() -> None:
    rgb = np.zeros((32, 32, 3), dtype=np.uint8)
    rgb[:, :, 0] = 255
    message = conversions.jpeg_to_msg(rgb, STAMP, "camera")
    bgr = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), cv2.IMREAD_COLOR)
    assert bgr[16, 16, 2] > 200
    assert bgr[16, 16, 0] < 50
    assert "jpeg" in message.format


def test_raw_image_has_the_pixels_in_order() -> None:
    rgb = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    message = conversions.image_to_msg(rgb[:, ::-1], "rgb8", STAMP, "camera")
    assert (message.height, message.width, message.step) == (2, 5, 15)
    assert bytes(message.data) == np.ascontiguousarray(rgb[:, ::-1]).tobytes()
    assert message.header.frame_id == "camera"


def test_camera_info_has_the_calibration() -> None:
    intrinsics = CameraIntrinsics(width=40, height=30, fx=50.0, fy=51.0, cx=20.0, cy=15.0)
    frame = CameraFrame(
        name="camera",
        rgb=np.zeros((30, 40, 3), np.uint8),
        depth_m=None,
        intrinsics=intrinsics,
        T_base_camera=np.eye(4),
        capture_ns=1,
    )
    info = conversions.camera_info_to_msg(frame, STAMP, "camera")
    assert (info.width, info.height) == (40, 30)
    assert (info.k[0], info.k[4], info.p[0], info.p[5]) == (50.0, 51.0, 50.0, 51.0)
    assert len(info.d) == 5


def test_time_converter_goes_there_and_back() -> None:
    converter = TimeConverter(monotonic_ns=5_000_000_000, system_ns=1_700_000_000_123_456_789)
    for instant_ns in (0, 5_000_000_000, 987_654_321_012_345_678):
        assert converter.to_monotonic(converter.to_ros(instant_ns)) == instant_ns
    now = converter.to_ros(5_000_000_000)
    assert (now.sec, now.nanosec) == (1_700_000_000, 123_456_789)


def test_time_converter_trusts_the_reading_that_was_least_disturbed() -> None:
    # Before, after the system clock was read: the second reading was not interrupted.
    monotonic = iter([0, 900, 1000, 1010, 2000, 2900, 3000, 3900, 4000, 4900])
    system = iter([10_400, 11_005, 12_100, 13_800, 14_100])
    converter = TimeConverter.measure(lambda: next(monotonic), lambda: next(system))
    assert converter.to_ros(0).nanosec == 10_000
