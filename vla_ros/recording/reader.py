# SPDX-License-Identifier: Apache-2.0
"""Reads an episode back as NumPy arrays; needs no ROS.

Times ``t_s`` are seconds since the start of the recording, from the message's header stamp where it
has one. ``n`` counts messages, ``j`` joints. Poses are in the robot's base frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader

from vla_ros.errors import RecordingError
from vla_ros.recording.episode import EpisodeInfo, read_episode
from vla_ros.recording.message_types import MessageTypes

Array = NDArray[np.float64]
NS = 1e-9

SERIES_TOPICS = (
    "joint_states",
    "current_pose",
    "commanded_pose",
    "control/status",
    "action_chunk",
    "executor/status",
    "slow/status",
    "latent",
    "task/state",
    "judge/verdict",
)


@dataclass(frozen=True, kw_only=True)
class JointSeries:
    """Joint states: ``t_s`` (n,), ``names``, ``q`` [rad], ``dq`` [rad/s], ``tau`` [N·m] (n, j)."""

    t_s: Array
    names: tuple[str, ...]
    q: Array
    dq: Array
    tau: Array


@dataclass(frozen=True, kw_only=True)
class PoseSeries:
    """Poses: ``t_s`` (n,), ``positions`` (n, 3) [m], ``quats_xyzw`` (n, 4)."""

    t_s: Array
    positions: Array
    quats_xyzw: Array


@dataclass(frozen=True, kw_only=True)
class Table:
    """Scalar fields of a topic over time: ``columns[name]`` (n,), numbers as float64 or strings."""

    t_s: Array
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.t_s)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column; empty when the topic has no message."""
        return self.columns.get(name, np.empty(0))


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode, read completely except for its images.

    Attributes:
        path: the bag's folder.
        chunks: ``action_chunk`` with ``phase done latent_age_ms latent_age_true_ms seam_m
            inference_ms publish_ns`` (``publish_ns`` is CLOCK_MONOTONIC).
        latents: ``latent`` with ``publish_ns capture_oldest_ns infer_start_ns infer_end_ns``.
    """

    path: Path
    info: EpisodeInfo
    joints: JointSeries
    measured: PoseSeries
    commanded: PoseSeries
    control: Table
    chunks: Table
    latents: Table
    executor: Table
    slow: Table
    task: Table
    verdict: Table

    @property
    def duration_s(self) -> float:
        """Length of the recording [s]; 0 if it never ended."""
        return max(0.0, ((self.info.end_ns or self.info.start_ns) - self.info.start_ns) * NS)


class EpisodeBag:
    """Random access to the topics of one bag folder.

    Args:
        path: the bag's folder.
        types: definitions for reading; types that are not in it are read from the bag itself.

    Raises:
        RecordingError: if there is no complete bag.
    """

    def __init__(self, path: Path, types: MessageTypes | None = None) -> None:
        self.path = path
        self.info = read_episode(path)
        self._types = types or MessageTypes()
        try:
            with Reader(path) as reader:
                self.topics = {c.topic: c.msgtype for c in reader.connections}
                for c in reader.connections:
                    self._types.ensure_from_text(c.msgtype, c.msgdef.data)
        except Exception as error:
            raise RecordingError(f"{path}: not a readable bag: {error}") from error

    def find(self, name: str) -> str | None:
        """Return the topic called ``name``, whatever its namespace; None if there is none."""
        matches = [t for t in self.topics if t == f"/{name}" or t.endswith(f"/{name}")]
        return min(matches, key=len, default=None)

    def messages(self, names: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
        """Yield (name, receive time [ns], message) of some topics, in order of reception."""
        by_topic = {topic: name for name in names if (topic := self.find(name)) is not None}
        if not by_topic:
            return
        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in by_topic]
            for connection, receive_ns, data in reader.messages(connections=wanted):
                message = self._types.store.deserialize_cdr(data, connection.msgtype)
                yield by_topic[connection.topic], receive_ns, message

    def images(self, camera: str) -> Iterator[tuple[float, bytes]]:
        """Yield (t_s, encoded image) of a camera's compressed topic."""
        for _, receive_ns, message in self.messages([f"{camera}/image_raw/compressed"]):
            yield self._seconds(receive_ns, message), bytes(message.data)

    def load(self) -> Episode:
        """Read every series that reports need."""
        rows: dict[str, list[tuple[float, Any]]] = {name: [] for name in SERIES_TOPICS}
        for name, receive_ns, message in self.messages(SERIES_TOPICS):
            rows[name].append((self._seconds(receive_ns, message), message))
        return Episode(
            path=self.path,
            info=self.info,
            joints=_joints(rows["joint_states"]),
            measured=_poses(rows["current_pose"]),
            commanded=_poses(rows["commanded_pose"]),
            control=_table(rows["control/status"]),
            chunks=_table(rows["action_chunk"], _stamp_columns),
            latents=_table(rows["latent"], _stamp_columns),
            executor=_table(rows["executor/status"]),
            slow=_table(rows["slow/status"]),
            task=_table(rows["task/state"]),
            verdict=_table(rows["judge/verdict"]),
        )

    def _seconds(self, receive_ns: int, message: Any) -> float:
        header = getattr(message, "header", None)
        stamp_ns = receive_ns
        if header is not None and (header.stamp.sec or header.stamp.nanosec):
            stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        return (stamp_ns - self.info.start_ns) * NS


def load_episode(path: Path, types: MessageTypes | None = None) -> Episode:
    """Read one episode's series."""
    return EpisodeBag(path, types).load()


def find_episodes(run_folder: Path) -> list[Path]:
    """Return the complete bags of a run, by episode number."""
    found = [
        p.parent
        for p in run_folder.glob("*/metadata.yaml")
        if (p.parent / "episode.json").is_file()
    ]
    complete = [p for p in found if not p.name.endswith(".partial")]
    return sorted(complete, key=lambda p: (read_episode(p).episode_id, p.name))


def _times(rows: list[tuple[float, Any]]) -> Array:
    return np.array([t for t, _ in rows], dtype=float)


def _matrix(values: list[Any], width: int) -> Array:
    """Stack vectors; one that is absent or of another length becomes NaN."""
    blank = np.full(width, np.nan)
    stacked = [np.asarray(v, dtype=float) if len(v) == width else blank for v in values]
    return np.array(stacked).reshape(len(values), width)


def _joints(rows: list[tuple[float, Any]]) -> JointSeries:
    names = tuple(rows[0][1].name) if rows else ()
    return JointSeries(
        t_s=_times(rows),
        names=names,
        q=_matrix([m.position for _, m in rows], len(names)),
        dq=_matrix([m.velocity for _, m in rows], len(names)),
        tau=_matrix([m.effort for _, m in rows], len(names)),
    )


def _poses(rows: list[tuple[float, Any]]) -> PoseSeries:
    poses = [m.pose for _, m in rows]
    p = [(x.position.x, x.position.y, x.position.z) for x in poses]
    q = [(x.orientation.x, x.orientation.y, x.orientation.z, x.orientation.w) for x in poses]
    return PoseSeries(t_s=_times(rows), positions=_matrix(p, 3), quats_xyzw=_matrix(q, 4))


def _stamp_columns(message: Any) -> dict[str, Any]:
    names = ("publish_ns", "capture_oldest_ns", "infer_start_ns", "infer_end_ns", "seq")
    return {name: getattr(message.stamp, name) for name in names}


def _table(
    rows: list[tuple[float, Any]], extra: Callable[[Any], dict[str, Any]] | None = None
) -> Table:
    """Collect the scalar fields (numbers, booleans, strings) of messages of one type."""
    columns: dict[str, list[Any]] = {}
    for _, message in rows:
        scalars = {
            k: v for k, v in vars(message).items() if isinstance(v, bool | int | float | str)
        }
        for name, value in (scalars | (extra(message) if extra else {})).items():
            columns.setdefault(name, []).append(value)
    arrays = {
        k: np.array(v, dtype=None if isinstance(v[0], str) else float) for k, v in columns.items()
    }
    return Table(t_s=_times(rows), columns=arrays)
