# SPDX-License-Identifier: Apache-2.0
"""The thread that writes: callbacks hand messages over and return, disks may be slow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from vla_ros.clock import Clock, MonotonicClock
from vla_ros.errors import ConfigError, RecordingError
from vla_ros.recording.bag_writer import BagConfig, BagWriter
from vla_ros.recording.counts import Mark, NodeReport, PublisherDirectory
from vla_ros.recording.episode import EpisodeInfo, Outcome
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.session import Received, Session, SessionResult, TopicSpec

T = TypeVar("T")

_IDLE_S = 0.05
_PER_ROUND = 2000


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """How much may wait for the disk: number of messages and their total size [bytes]."""

    max_messages: int = 20_000
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.max_messages < 1 or self.max_bytes < 1:
            raise ConfigError(
                f"max_messages, max_bytes must be >= 1, got {self.max_messages}, {self.max_bytes}"
            )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a recording as seen from outside the thread."""

    missing_start: frozenset[str] = frozenset()
    missing_stop: frozenset[str] = frozenset()
    is_tail_complete: bool = False
    error: str = ""


class RecordingWorker:
    """Owns the session; every call is queued and done in order by one thread.

    ``offer`` is the only call on the path of a message: a comparison and an append. A message that
    finds the queue full is dropped; its number is then missing from the account: it shows as lost.

    Thread-safety: callable from several threads; ``begin`` and ``finish`` by one at a time.
    """

    def __init__(
        self,
        types: MessageTypes,
        bag: BagConfig | None = None,
        queue: QueueConfig | None = None,
        clock: Clock | None = None,
        system_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._types = types
        self._bag = bag or BagConfig()
        self._limits = queue or QueueConfig()
        self._clock = clock or MonotonicClock()
        self._system_ns = system_ns
        self._queue: deque[Received | Callable[[], None]] = deque()
        self._waiting_bytes = 0
        self._written_bytes = 0
        self._dropped = 0
        self._recording = False
        self._session: Session | None = None
        self._aborted: SessionResult | None = None
        self._directory = PublisherDirectory()
        self._topics: dict[str, TopicSpec] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.progress = Progress()

    @property
    def is_recording(self) -> bool:
        """Whether messages are wanted."""
        return self._recording

    @property
    def dropped(self) -> int:
        """Messages of this recording that found the queue full."""
        return self._dropped

    def start(self) -> None:
        """Start the thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a recording in progress is completed as aborted."""
        if self._thread is None:
            return
        if self._recording:
            self.finish(Outcome.ABORTED, note="the recorder was stopped").exception(timeout=10.0)
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=10.0)
        self._thread = None

    def set_topic(self, spec: TopicSpec) -> None:
        """Make a topic known, or its quality of service."""
        self._do(lambda: self._topics.__setitem__(spec.name, spec))

    def observe_publisher(self, gid: bytes, node: str) -> None:
        """Note which node a publisher belongs to."""
        self._do(lambda: self._directory.observe_publisher(gid, node))

    def report(self, report: NodeReport, mark: Mark) -> None:
        """Pass on what a node says about its counts, recording or not."""
        self._do(lambda: self._take_report(report, mark))

    def offer(self, message: Received) -> None:
        """Queue a message if a recording runs and there is room."""
        if not self._recording:
            return
        waiting = self._waiting_bytes - self._written_bytes
        if len(self._queue) >= self._limits.max_messages or waiting > self._limits.max_bytes:
            self._dropped += 1
            return
        self._waiting_bytes += len(message.data)
        self._queue.append(message)

    def begin(
        self,
        run_folder: Path,
        info: EpisodeInfo,
        latched: Iterable[Received] = (),
        expected_nodes: Iterable[str] = (),
    ) -> Future[Path]:
        """Open the bag and start taking messages; the future gives the ``.partial`` folder.

        The future raises RecordingError if a recording runs already or the bag cannot be opened.
        """
        held, nodes = list(latched), list(expected_nodes)
        done: Future[Path] = Future()
        self._do(lambda: _settle(done, lambda: self._begin(run_folder, info, held, nodes)))
        self._wake.set()
        return done

    def finish(self, outcome: Outcome | None, note: str = "") -> Future[SessionResult]:
        """Stop taking messages and complete the bag; None discards it.

        The future raises RecordingError if nothing was recording or the bag cannot be completed.
        """
        self._recording = False
        done: Future[SessionResult] = Future()
        self._do(lambda: _settle(done, lambda: self._finish(outcome, note)))
        self._wake.set()
        return done

    def _do(self, action: Callable[[], None]) -> None:
        self._queue.append(action)

    def _run(self) -> None:
        while not self._stop.is_set() or self._queue:
            self._round()
            if not self._queue:
                self._wake.wait(_IDLE_S)
                self._wake.clear()

    def _round(self) -> None:
        """Empty the queue, then flush and publish the progress."""
        for _ in range(min(len(self._queue), _PER_ROUND)):
            item = self._queue.popleft()
            if isinstance(item, Received):
                self._written_bytes += len(item.data)
                self._guarded(partial(Session.add, message=item))
            else:
                item()
        self._guarded(lambda session: session.poll(self._clock.now_ns()))
        session = self._session
        if session is not None:
            self.progress = Progress(
                missing_start=frozenset(session.missing_answers(Mark.START)),
                missing_stop=frozenset(session.missing_answers(Mark.STOP)),
                is_tail_complete=session.account.is_tail_complete(),
            )

    def _guarded(self, action: Callable[[Session], None]) -> None:
        """Do something with the session; an error ends the recording as aborted."""
        if self._session is None:
            return
        try:
            action(self._session)
        except RecordingError as error:
            self._recording = False
            self._aborted = self._session.abort(self._system_ns(), str(error))
            self._session = None
            self.progress = Progress(error=str(error))

    def _begin(
        self, run_folder: Path, info: EpisodeInfo, latched: list[Received], nodes: list[str]
    ) -> Path:
        if self._session is not None:
            raise RecordingError("a recording is in progress; stop it first")
        writer = BagWriter(run_folder, f"episode_{info.episode_id}", info, self._types, self._bag)
        try:
            session = Session(writer, info, self._directory, self._topics, latched)
        except RecordingError:
            writer.abort(info)
            raise
        session.expect_answers(nodes)
        self._dropped = 0
        self._aborted = None
        self._session = session
        self.progress = Progress(missing_start=frozenset(nodes), missing_stop=frozenset(nodes))
        self._recording = True
        return writer.path

    def _finish(self, outcome: Outcome | None, note: str) -> SessionResult:
        if self._aborted is not None:
            aborted, self._aborted = self._aborted, None
            raise RecordingError(f"recording was aborted: {aborted.info.note} ({aborted.path})")
        session, self._session = self._session, None
        if session is None:
            raise RecordingError("nothing is being recorded")
        end_ns = self._system_ns()
        if outcome is None:
            return session.discard(end_ns)
        return session.finish(outcome, end_ns, queue_dropped=self._dropped, note=note)

    def _take_report(self, report: NodeReport, mark: Mark) -> None:
        if self._session is not None:
            self._session.report(report, mark)
        else:
            self._directory.observe_incarnation(report)


def _settle(future: Future[T], action: Callable[[], T]) -> None:
    """Run an action and put its result or error in the future."""
    try:
        future.set_result(action())
    except Exception as error:
        future.set_exception(error)
