# SPDX-License-Identifier: Apache-2.0
"""recorder_node: writes everything the running system publishes, and says what it missed."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.serialization import deserialize_message
from vla_ros_msgs.msg import PublisherCounts, RecordingMark
from vla_ros_msgs.srv import StartRecording, StopRecording

from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import RecordingError
from vla_ros.nodes.base import NodeHealth, VlaNode, run_node
from vla_ros.nodes.raw_inbox import RawInbox
from vla_ros.nodes.topic_discovery import (
    FoundTopic,
    find_topics,
    is_wanted,
    matching_qos,
    message_class,
)
from vla_ros.recording.bag_writer import BagConfig
from vla_ros.recording.counts import Mark, NodeReport
from vla_ros.recording.episode import EpisodeInfo, Outcome
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.session import Received, SessionResult, TopicSpec
from vla_ros.recording.worker import RecordingWorker

T = TypeVar("T")

_DISK_LIMIT_S = 30.0
_ASK_EVERY_S = 0.2
_COLLECT_S = 0.02
_OUTCOMES = {"success": Outcome.SUCCESS, "failure": Outcome.FAILURE, "discard": None}
_VERSIONED = ("vla_ros", "vla_ros_core", "mujoco", "rosbags", "numpy")


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """Parameters of the recorder."""

    expected_topics: str = setting(
        "joint_states current_pose commanded_pose control/status action_chunk executor/status "
        "latent slow/status task/state authority authority/keepalive judge/verdict "
        "scene_camera/camera_info wrist_camera/camera_info",
        "topics, relative, without which an episode is incomplete; separated by spaces",
    )
    discovery_period_s: float = setting(
        1.0, "how often new topics are looked for", unit="s", ge=0.1, le=10.0, read_only=True
    )
    answer_limit_s: float = setting(
        1.0, "how long to wait for the nodes' counts", unit="s", ge=0.1, le=10.0
    )
    connect_limit_s: float = setting(
        5.0, "how long to wait at a start until every node is connected", unit="s", ge=0.1, le=30.0
    )
    tail_limit_s: float = setting(
        2.0, "how long to wait for messages still under way at the end", unit="s", ge=0.0, le=10.0
    )
    history_depth: int = setting(
        1000, "messages a topic may pile up before the recorder takes them", ge=1, le=100_000,
        read_only=True,
    )  # fmt: skip
    chunk_period_s: float = setting(
        0.5, "a crash loses at most this much", unit="s", ge=0.05, le=5.0, read_only=True
    )
    min_free_gib: float = setting(
        1.0, "free space below which nothing is recorded", unit="GiB", ge=0.0, le=1024.0,
        read_only=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)


class RecorderNode(VlaNode):
    """Subscribes to what it finds and hands raw messages to the writing thread."""

    default_nice = 6

    config_type = RecorderConfig

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._worker: RecordingWorker | None = None
        self._inbox = RawInbox(self)
        self._known: dict[str, FoundTopic] = {}
        self._latched: dict[tuple[str, bytes], Received] = {}
        self._refused: dict[str, str] = {}
        self._mark_id = time.time_ns() // NS_PER_S << 16
        self._marks: dict[int, Mark] = {}
        self._subscribers: dict[tuple[str, str], int] = {}
        self._ask_again_s = 0.0
        self._is_active = False
        self._is_busy = False
        self._last: SessionResult | None = None
        self._group = ReentrantCallbackGroup()  # a service waits while messages go on

    def on_setup(self, config: RecorderConfig) -> None:
        """Start the writing thread and listen to everything there is."""
        bag = BagConfig(
            chunk_period_s=config.chunk_period_s,
            fsync_period_s=max(5.0, config.chunk_period_s),
            min_free_bytes=int(config.min_free_gib * 2**30),
        )
        self._worker = RecordingWorker(MessageTypes(), bag)
        self._inbox = RawInbox(self)
        self._known, self._refused, self._latched = {}, {}, {}
        self._mark_pub = self.create_counted_publisher(RecordingMark, "recording/mark", 10)
        for name, kind, callback in (
            ("~/start", StartRecording, self._on_start_service),
            ("~/stop", StopRecording, self._on_stop_service),
        ):
            self.create_service(kind, name, callback, callback_group=self._group)
        self._discover()
        self.create_timer(config.discovery_period_s, self._discover)
        self.create_timer(_COLLECT_S, self._collect, callback_group=self._group)

    def on_start(self) -> None:
        """Accept recordings."""
        assert self._worker is not None
        self._worker.start()
        self._is_active = True

    def on_stop(self) -> None:
        """Complete a recording in progress as aborted."""
        self._is_active = False
        if self._worker is not None:
            self._worker.stop()

    def health(self) -> NodeHealth:
        """Say what is recorded and what was lost last time."""
        worker = self._worker
        if worker is None or not self._is_active:
            return NodeHealth.warn("not active")
        values: dict[str, Any] = {"topics": len(self._known), "queue_dropped": worker.dropped}
        if self._last is not None:
            info = self._last.info
            values |= {"last_recorded": info.recorded, "last_lost": info.lost}
        values |= {f"not recorded: {name}": why for name, why in self._refused.items()}
        if worker.progress.error:
            return NodeHealth.error(worker.progress.error, values)
        if worker.dropped:
            return NodeHealth.warn("the disk is too slow: messages were dropped", values)
        return NodeHealth.ok("recording" if worker.is_recording else "ready", values)

    def _collect(self) -> None:
        self._inbox.collect()

    # --- topics ---------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Subscribe to topics that have appeared and note who publishes what."""
        worker = self._worker
        if worker is None:
            return
        for topic in find_topics(self):
            before = self._known.get(topic.name)
            for gid, node in topic.publishers:
                if before is None or (gid, node) not in before.publishers:
                    worker.observe_publisher(gid, node)
            if before is None and topic.name not in self._refused:
                self._subscribe(topic)
            if topic.name in self._known:
                self._known[topic.name] = topic
            if before is None or before.offered != topic.offered:
                spec = TopicSpec(name=topic.name, msgtype=topic.msgtype, qos=topic.offered)
                worker.set_topic(spec)

    def _subscribe(self, topic: FoundTopic) -> None:
        try:
            kind = message_class(topic.msgtype)
        except RecordingError as error:
            self._refused[topic.name] = str(error)
            self.get_logger().warning(f"{topic.name} is not recorded: {error}")
            return
        self._known[topic.name] = topic
        qos = matching_qos(topic, self.config.history_depth)
        self._inbox.subscribe(kind, topic.name, qos, self._receiver(topic))

    def _receiver(self, topic: FoundTopic) -> Callable[[Received], None]:
        """Return what to do with a topic's messages."""
        worker = self._worker
        assert worker is not None
        if topic.msgtype == "vla_ros_msgs/msg/PublisherCounts":
            return self._take_counts
        if topic.is_latched:
            return self._take_latched
        return worker.offer

    def _take_latched(self, message: Received) -> None:
        """Keep the newest of each publisher: later episodes need it at their head."""
        self._latched[(message.topic, message.gid)] = message
        assert self._worker is not None
        self._worker.offer(message)

    def _take_counts(self, message: Received) -> None:
        counts: PublisherCounts = deserialize_message(message.data, PublisherCounts)
        assert self._worker is not None
        self._worker.offer(message)
        for t in counts.topics:
            self._subscribers[(counts.node, t.topic)] = t.subscribers
        report = NodeReport(
            node=counts.node,
            incarnation=counts.incarnation,
            gid=message.gid,
            counts={t.topic: t.published for t in counts.topics if is_wanted(t.topic, t.type)},
        )
        self._worker.report(report, self._marks.get(counts.mark_id, Mark.PERIODIC))

    # --- services -------------------------------------------------------------------------------

    async def _on_start_service(
        self, request: StartRecording.Request, response: StartRecording.Response
    ) -> StartRecording.Response:
        try:
            with self._exclusive():
                response.path, response.message = await self._start(request)
            response.success = True
        except RecordingError as error:
            response.success, response.message = False, str(error)
        return response

    async def _start(self, request: StartRecording.Request) -> tuple[str, str]:
        if not request.directory:
            raise RecordingError("directory must name the folder of the run")
        assert self._worker is not None
        # A node that started a moment ago may not be heard of yet, or may not have heard of the
        # recorder: what it sends meanwhile would be lost. Both sides are asked.
        await self._until(self._has_found_all, self.config.connect_limit_s)
        await self._until(self._inbox.is_matched, self.config.connect_limit_s)
        await self._until(self._is_heard_of, self.config.connect_limit_s)
        info = EpisodeInfo(
            episode_id=request.episode_id,
            instruction=request.instruction,
            start_ns=time.time_ns(),
            versions=_versions(),
        )
        nodes = {node for topic in self._count_topics() for _, node in topic.publishers}
        begun = self._worker.begin(
            Path(request.directory), info, list(self._latched.values()), nodes
        )
        path = await self._finished(begun)
        self._send_mark(Mark.START, request.episode_id)
        await self._until(lambda: not self._progress().missing_start, self.config.answer_limit_s)
        return str(path.with_suffix("")), self._start_message()

    def _has_found_all(self) -> bool:
        if self._missing_topics() and self._is_time_to_ask():
            self._discover()
        return not self._missing_topics()

    def _is_heard_of(self) -> bool:
        """Say whether every publisher sends to all subscriptions there are, ours among them."""
        if self._is_time_to_ask():
            self._send_mark(Mark.PERIODIC, 0)
        return all(
            known >= self.count_subscribers(topic)
            for (_, topic), known in self._subscribers.items()
            if topic in self._known
        )

    def _is_time_to_ask(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._ask_again_s:
            return False
        self._ask_again_s = now_s + _ASK_EVERY_S
        return True

    def _missing_topics(self) -> list[str]:
        return [
            topic
            for topic in self.config.expected_topics.split()
            if not any(known.endswith(f"/{topic}") for known in self._known)
        ]

    def _start_message(self) -> str:
        silent = sorted(self._progress().missing_start)
        missing = self._missing_topics()
        notes = [f"no answer from {', '.join(silent)}"] if silent else []
        notes += [f"not published yet: {', '.join(missing)}"] if missing else []
        return "; ".join(notes) or f"recording {len(self._known)} topics"

    async def _on_stop_service(
        self, request: StopRecording.Request, response: StopRecording.Response
    ) -> StopRecording.Response:
        try:
            with self._exclusive():
                result = await self._stop(request.outcome, request.note)
        except RecordingError as error:
            response.success, response.message = False, str(error)
            return response
        info = result.info
        response.success, response.path = True, str(result.path)
        response.published, response.recorded = info.published, info.recorded
        response.lost = info.lost
        response.message = f"{info.outcome}: {info.lost} of {info.published} messages lost"
        return response

    async def _stop(self, outcome: str, note: str) -> SessionResult:
        if outcome not in _OUTCOMES:
            raise RecordingError(f"outcome must be one of {', '.join(_OUTCOMES)}, got {outcome!r}")
        assert self._worker is not None
        if self._worker.is_recording and _OUTCOMES[outcome] is not None:
            self._discover()  # whose messages are they, if a node started a moment ago
            self._send_mark(Mark.STOP, 0)
            await self._until(lambda: not self._progress().missing_stop, self.config.answer_limit_s)
            await self._until(lambda: self._progress().is_tail_complete, self.config.tail_limit_s)
        self._last = await self._finished(self._worker.finish(_OUTCOMES[outcome], note))
        return self._last

    async def _finished(self, future: Future[T]) -> T:
        """Return what the writing thread answers; a disk that does not react is an error."""
        await self._until(future.done, _DISK_LIMIT_S)
        if not future.done():
            raise RecordingError(f"the disk did not react within {_DISK_LIMIT_S:.0f} s")
        return future.result()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one service request run at a time, and none while the node is not active."""
        if not self._is_active:
            raise RecordingError("the recorder is not active")
        if self._is_busy:
            raise RecordingError("another start or stop is in progress")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    def _progress(self) -> Any:
        assert self._worker is not None
        return self._worker.progress

    def _count_topics(self) -> list[FoundTopic]:
        return [t for t in self._known.values() if t.msgtype == "vla_ros_msgs/msg/PublisherCounts"]

    def _send_mark(self, mark: Mark, episode_id: int) -> None:
        self._mark_id += 1
        self._marks[self._mark_id] = mark
        message = RecordingMark(
            mark_id=self._mark_id, label=mark.name.lower(), episode_id=episode_id
        )
        message.header.stamp = self.ros_time(time.monotonic_ns())
        self._mark_pub.publish(message)

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for a condition, at most ``limit_s``, while the executor does other work."""
        deadline = time.monotonic() + limit_s
        while not condition() and time.monotonic() < deadline:
            await _Turn()  # the timer that collects messages wakes the executor


class _Turn:
    """Gives the executor one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Run the node."""
    run_node(RecorderNode)
