# SPDX-License-Identifier: Apache-2.0
"""Synthetic episodes, written through the real writer; shared by the recording and report tests."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from vla_ros.recording.bag_writer import BagConfig, BagWriter
from vla_ros.recording.counts import TopicAccount
from vla_ros.recording.episode import EpisodeInfo, Outcome
from vla_ros.recording.message_types import MessageTypes

START_NS = 1_790_000_000_000_000_000
NO_FLOOR = BagConfig(min_free_bytes=0)
_FOREVER = QosTime(9223372036, 854775807)


def qos(*, latched: bool = False) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class Messages:
    """Builds messages of the rosbags type store with zero defaults."""

    def __init__(self, types: MessageTypes) -> None:
        self.types = types

    def make(self, msgtype: str, **values: Any) -> Any:
        self.types.ensure(msgtype)
        fields = self.types.store.fielddefs[msgtype][1]
        given = {
            name: self._default(d) if name not in values else values[name] for name, d in fields
        }
        return self.types.store.types[msgtype](**given)

    def cdr(self, message: Any, msgtype: str) -> bytes:
        return bytes(self.types.store.serialize_cdr(message, msgtype))

    def header(self, stamp_ns: int, frame: str = "fr3_link0") -> Any:
        stamp = self.make(
            "builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        )
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def _default(self, description: Any) -> Any:
        kind, detail = int(description[0]), description[1]
        if kind == 1:
            return {"string": "", "bool": False}.get(detail[0], 0)
        if kind == 2:
            return self.make(detail)
        element = detail[0]
        length = detail[1] if kind == 3 else 0
        if int(element[0]) == 1 and element[1][0] != "string":
            return np.zeros(length, dtype=element[1][0])
        return []


def jpeg(t_s: float, size: tuple[int, int] = (160, 120)) -> bytes:
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    image[..., 2] = np.linspace(40, 160, size[0], dtype=np.uint8)
    x = int((0.1 + 0.8 * (t_s % 4) / 4) * size[0])
    image[50:70, max(0, x - 10) : x + 10] = (220, 60, 40)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    return buffer.getvalue()


def write_sample(
    folder: Path, episode_id: int = 1, *, seconds: float = 4.0, success: bool = True
) -> Path:
    """Write a plausible episode with every topic the report reads and return its folder."""
    types = MessageTypes()
    m = Messages(types)
    info = EpisodeInfo(
        episode_id=episode_id,
        instruction="put the red cube in the cyan bowl",
        seed=40 + episode_id,
        start_ns=START_NS,
        versions={"vla_ros": "0.1.0"},
    )
    writer = BagWriter(folder, f"episode_{episode_id}", info, types, NO_FLOOR)
    counts: dict[str, int] = {}
    msgtypes: dict[str, str] = {}

    def put(topic: str, msgtype: str, t_s: float, latched: bool = False, **values: Any) -> None:
        stamp_ns = START_NS + round(t_s * 1e9)
        if "header" in {name for name, _ in _fields(m, msgtype)}:
            values.setdefault("header", m.header(stamp_ns))
        writer.add_topic(topic, msgtype, [qos(latched=latched)])
        writer.write(topic, stamp_ns + 200_000, m.cdr(m.make(msgtype, **values), msgtype))
        counts[topic] = counts.get(topic, 0) + 1
        msgtypes[topic] = msgtype

    draw = np.random.default_rng(episode_id)
    put("/tf_static", "tf2_msgs/msg/TFMessage", 0.0, latched=True)
    put(
        "/task/state",
        "vla_ros_msgs/msg/TaskState",
        0.01,
        latched=True,
        status=1,
        episode_id=episode_id,
    )
    names = [f"fr3_joint{i}" for i in range(1, 8)]
    for k in range(int(seconds * 100)):
        t = k / 100
        wave = np.sin(t + np.arange(7))
        put(
            "/joint_states",
            "sensor_msgs/msg/JointState",
            t,
            name=names,
            position=wave,
            velocity=np.cos(t + np.arange(7)),
            effort=20 * wave,
        )
        for topic, offset in (("/current_pose", 0.0), ("/commanded_pose", 0.004)):
            position = m.make(
                "geometry_msgs/msg/Point",
                x=0.45 + 0.1 * math.sin(t + offset),
                y=0.1 * math.cos(t),
                z=0.3,
            )
            quat = m.make("geometry_msgs/msg/Quaternion", x=1.0, y=0.0, z=0.0, w=0.0)
            pose = m.make("geometry_msgs/msg/Pose", position=position, orientation=quat)
            put(topic, "geometry_msgs/msg/PoseStamped", t, pose=pose)
    for k in range(int(seconds * 20)):
        t = k / 20
        put(
            "/control/status",
            "vla_ros_msgs/msg/ControlStatus",
            t,
            mode=1,
            priority="FIFO 80",
            ticks=1000 + 50 * k,
            skipped=k // 20,
            rate_hz=1000.0,
            period_us_p50=1000.0,
            period_us_p99=1040.0 + 20 * draw.random(),
            compute_us_p50=40.0,
            compute_us_p99=70.0,
            source="policy",
        )
    for k in range(int(seconds * 50)):
        t = k / 50
        publish = 5_000_000_000 + round(t * 1e9 + 1e6 * draw.random())
        stamp = m.make("vla_ros_msgs/msg/LatencyStamp", kind=2, seq=k, publish_ns=publish)
        age = 150 + 100 * (t * 4 % 1)
        put(
            "/action_chunk",
            "vla_ros_msgs/msg/ActionChunk",
            t,
            stamp=stamp,
            phase="reach" if t < 2 else "place",
            latent_age_ms=age,
            latent_age_true_ms=age + 0.5,
            seam_m=0.0005 * draw.random(),
            inference_ms=2 + draw.random(),
        )
    for k in range(int(seconds * 4)):
        publish = 5_000_000_000 + round(k / 4 * 1e9)
        stamp = m.make(
            "vla_ros_msgs/msg/LatencyStamp",
            kind=1,
            seq=k,
            publish_ns=publish,
            capture_oldest_ns=publish - 150_000_000,
            infer_start_ns=publish - 100_000_000,
            infer_end_ns=publish - 1_000_000,
        )
        put("/latent", "vla_ros_msgs/msg/Latent", k / 4, stamp=stamp)
    for k in range(int(seconds * 10)):
        put(
            "/executor/status",
            "vla_ros_msgs/msg/ExecutorStatus",
            k / 10,
            starved=k < 4,
            chunks_hz=50.0,
        )
        put("/judge/verdict", "vla_ros_msgs/msg/Verdict", k / 10, success=success and k > 30)
        for camera in ("scene_camera", "wrist_camera"):
            put(
                f"/{camera}/image_raw/compressed",
                "sensor_msgs/msg/CompressedImage",
                k / 10,
                format="jpeg",
                data=np.frombuffer(jpeg(k / 10), np.uint8),
            )
    put("/slow/status", "vla_ros_msgs/msg/SlowStatus", 1.0, policy="classical", rate_hz=4.0)
    ended = START_NS + round(seconds * 1e9)
    accounts = {t: TopicAccount(published=n + 1, recorded=n, lost=1) for t, n in counts.items()}
    outcome = Outcome.SUCCESS if success else Outcome.FAILURE
    return writer.close(
        info.replace(outcome=outcome, end_ns=ended, topics=accounts, types=msgtypes)
    )


def _fields(m: Messages, msgtype: str) -> list[Any]:
    m.types.ensure(msgtype)
    return list(m.types.store.fielddefs[msgtype][1])


INFO = EpisodeInfo(
    episode_id=7, instruction="put the red cube in the cyan bowl", seed=3, start_ns=START_NS
)
STRING = "std_msgs/msg/String"


def string_cdr(types: MessageTypes, text: str) -> bytes:
    m = Messages(types)
    return m.cdr(m.make(STRING, data=text), STRING)


def open_writer(folder: Path, types: MessageTypes, config: BagConfig = NO_FLOOR) -> BagWriter:
    writer = BagWriter(folder, "episode_7", INFO, types, config)
    writer.add_topic("/text", STRING, [qos()])
    return writer
