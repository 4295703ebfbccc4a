# SPDX-License-Identifier: Apache-2.0
"""From the bag of a demonstration to the arrays that training needs.

``F`` counts frames, ``N`` steps of the expert, ``H`` rows of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import RecordingError
from vla_ros.geometry import pose_from_quat
from vla_ros.learning import demo_topics as topics
from vla_ros.learning.model_config import PHASES
from vla_ros.learning.relative_rows import CHUNK_ROWS, from_chunk, turn
from vla_ros.learning.split import SEEN_GOALS
from vla_ros.learning.state_vector import state_vector, yaw_of
from vla_ros.learning.views import SIDE_PX, crop_scene, shrink_wrist
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.policies.instruction import parse_instruction
from vla_ros.recording.episode import Outcome
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.reader import EpisodeBag
from vla_ros.types import ControlMode, RobotState

Array = NDArray[np.float64]

_STEP_TOPICS = (
    *(topics.CURRENT_POSE, topics.COMMANDED_POSE, topics.CURRENT_TWIST, topics.COMMANDED_TWIST),
    *(topics.GRIPPER, topics.RIGHT, topics.GOAL, topics.CUBES, topics.BOWLS),
)


@dataclass(frozen=True, kw_only=True)
class DemonstrationArrays:
    """One demonstration.

    Attributes:
        goal: (2,) numbers of cube and bowl colour.
        scene: F encoded PNGs of the part of the scene image that the model sees.
        wrist: (F, 52, 56, 3) uint8.
        frame_s, step_s: (F,), (N,) times since the episode began [s].
        frame_cubes, frame_bowls: (F, 4, 4), (F, 2, 2) where everything is, see ``ground_truth``.
        state: (N, 24) the fields of ``state_vector``.
        rows: (N, H, 6) what is right, relative to the reference, see ``relative_rows``.
        way_goal: (N, 4) where that comes to rest, relative to the reference [m, rad].
        phase: (N,) number of the phase.
        cubes, bowls: (N, 4, 4), (N, 2, 2) where everything is.
        newest_frame: (N,) number of the newest frame at each step.
    """

    instruction: str
    goal: NDArray[np.int64]
    scene: list[bytes]
    wrist: NDArray[np.uint8]
    frame_s: Array
    frame_cubes: Array
    frame_bowls: Array
    step_s: Array
    state: NDArray[np.float32]
    rows: Array
    way_goal: Array
    phase: NDArray[np.int64]
    cubes: Array
    bowls: Array
    newest_frame: NDArray[np.int64]


def read_demonstration(path: Path, types: MessageTypes | None = None) -> DemonstrationArrays | None:
    """Read a bag; None if the judge did not call it a success.

    Raises:
        RecordingError: if it is not a complete demonstration, or of a held-out goal.
    """
    bag = EpisodeBag(path, types)
    if bag.info.outcome is not Outcome.SUCCESS:
        return None
    goal = parse_instruction(bag.info.instruction)
    if goal not in SEEN_GOALS:
        raise RecordingError(f"{path}: {goal.text!r} is held out and must not be trained on")
    images = [topics.image_topic(camera) for camera in topics.CAMERAS]
    names = [topic.removeprefix("/") for topic in (*_STEP_TOPICS, *images)]
    found: dict[str, list[tuple[float, Any]]] = {f"/{name}": [] for name in names}
    for name, receive_ns, message in bag.messages(names):
        found[f"/{name}"].append((1e-9 * (receive_ns - bag.info.start_ns), message))
    counts = {len(found[topic]) for topic in _STEP_TOPICS} | {-len(found[t]) for t in images}
    if len(counts) != 2 or 0 in counts:
        raise RecordingError(f"{path}: the topics of a demonstration differ in length")
    steps = _read_steps({topic: [m for _, m in found[topic]] for topic in _STEP_TOPICS})
    frame_s = np.array([t for t, _ in found[images[0]]])
    step_s = np.array([t for t, _ in found[topics.RIGHT]])
    at_frames = np.abs(step_s[None, :] - frame_s[:, None]).argmin(axis=1)
    newest = np.searchsorted(frame_s, step_s + 1e-6, side="right") - 1
    return DemonstrationArrays(
        instruction=bag.info.instruction,
        goal=np.array([CUBE_COLOURS.index(goal.cube_colour), BOWL_COLOURS.index(goal.bowl_colour)]),
        scene=[_crop(path, m) for _, m in found[images[0]]],
        wrist=np.stack([shrink_wrist(_decode(path, m)) for _, m in found[images[1]]]),
        frame_s=frame_s,
        frame_cubes=steps["cubes"][at_frames],
        frame_bowls=steps["bowls"][at_frames],
        step_s=step_s,
        newest_frame=np.maximum(newest, 0),
        **steps,
    )


def _read_steps(messages: Mapping[str, list[Any]]) -> dict[str, Any]:
    states = [_state(messages, i) for i in range(len(messages[topics.RIGHT]))]
    refs = [s.T_base_ref for s in states]
    yaws = [yaw_of(T[:3, :3]) for T in refs]
    rows, goals = [], []
    for T, yaw, chunk, goal in zip(
        refs, yaws, messages[topics.RIGHT], messages[topics.GOAL], strict=True
    ):
        positions, quats = _poses(chunk.poses)
        if len(positions) != CHUNK_ROWS:
            raise RecordingError(f"a chunk has {CHUNK_ROWS} rows, got {len(positions)}")
        ref = np.array([*T[:3, 3], yaw])
        rows.append(from_chunk(positions, quats, np.asarray(chunk.gripper_width_m), ref))
        where, quat = _poses([goal.pose])
        R = pose_from_quat(where[0], quat[0])[:3, :3]
        goals.append([*(where[0] - ref[:3]), turn(yaw, yaw_of(R))])
    return {
        "state": np.stack([state_vector(s) for s in states]),
        "rows": np.array(rows),
        "way_goal": np.array(goals),
        "phase": np.array([_phase(m) for m in messages[topics.RIGHT]]),
        "cubes": np.array([_places(m)[:, :4] for m in messages[topics.CUBES]]),
        "bowls": np.array([_places(m)[:, :2] for m in messages[topics.BOWLS]]),
    }


def _phase(chunk: Any) -> int:
    """Return the phase; done only when the hand is out of the way as well."""
    name = "look" if chunk.phase == "done" and not chunk.done else chunk.phase
    return PHASES.index(name)


def _state(messages: Mapping[str, list[Any]], i: int) -> RobotState:
    T = [
        pose_from_quat(*(part[0] for part in _poses([messages[topic][i].pose])))
        for topic in (topics.CURRENT_POSE, topics.COMMANDED_POSE)
    ]
    twists = [
        _twist(messages[topic][i].twist) for topic in (topics.CURRENT_TWIST, topics.COMMANDED_TWIST)
    ]
    stamp = messages[topics.GRIPPER][i].header.stamp
    width_m, target_m = (float(v) for v in messages[topics.GRIPPER][i].position)
    nothing = np.zeros(7)
    return RobotState(
        seq=i,
        tick_ns=stamp.sec * 10**9 + stamp.nanosec,
        mode=ControlMode.TRACK,
        q=nothing,
        dq=nothing,
        tau=nothing,
        T_base_ee=T[0],
        twist_base=twists[0],
        T_base_ref=T[1],
        twist_ref_base=twists[1],
        gripper_width_m=width_m,
        gripper_target_m=target_m,
    )


def _poses(poses: list[Any]) -> tuple[Array, Array]:
    p = [(x.position.x, x.position.y, x.position.z) for x in poses]
    q = [(x.orientation.x, x.orientation.y, x.orientation.z, x.orientation.w) for x in poses]
    return np.array(p), np.array(q)


def _twist(twist: Any) -> Array:
    a, b = twist.linear, twist.angular
    return np.array([a.x, a.y, a.z, b.x, b.y, b.z])


def _places(message: Any) -> Array:
    """Return x, y, z [m] and yaw [rad] of the poses of an array."""
    positions, quats = _poses(message.poses)
    yaws = [2 * math.atan2(z, w) for _, _, z, w in quats]
    return np.column_stack([positions, yaws])


def _decode(path: Path, message: Any) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.asarray(message.data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (SIDE_PX, SIDE_PX, 3):
        raise RecordingError(f"{path}: an image is not a PNG of {SIDE_PX} x {SIDE_PX}")
    return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)


def _crop(path: Path, message: Any) -> bytes:
    return encode_scene(crop_scene(_decode(path, message)))


def encode_scene(rgb: NDArray[np.uint8]) -> bytes:
    """Return the PNG of a part of the scene (112, 224, 3)."""
    encoded = cv2.imencode(".png", rgb[:, :, ::-1], [int(cv2.IMWRITE_PNG_COMPRESSION), 1])[1]
    return bytes(encoded.tobytes())


def decode_scene(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image (112, 224, 3) of ``encode_scene``."""
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise RecordingError("an image of the cache is damaged")
    return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)
