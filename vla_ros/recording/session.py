# SPDX-License-Identifier: Apache-2.0
"""One episode being recorded: the bag, the account of every message, the way it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Qos

from vla_ros.errors import RecordingError
from vla_ros.recording.bag_writer import BagWriter
from vla_ros.recording.counts import (
    Disposition,
    EpisodeAccount,
    Mark,
    NodeReport,
    PublisherDirectory,
)
from vla_ros.recording.episode import EpisodeInfo, Outcome


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """What a bag says about a topic: its type and the quality of service its publishers offer."""

    name: str
    msgtype: str
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """One serialised message as it came in.

    Attributes:
        gid: identity of the publisher; empty if unknown.
        number: its sequence number, None if the middleware gives none.
        receive_ns: system time of reception [ns].
    """

    topic: str
    gid: bytes
    number: int | None
    receive_ns: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class SessionResult:
    """How a recording ended: where it lies and what it says about itself."""

    path: Path
    info: EpisodeInfo


class Session:
    """Writes one episode. Thread-safety: one thread.

    Args:
        writer: the open bag.
        info: what was known at the start.
        directory: publishers and nodes known so far.
        topics: known topics by name; may grow while recording.
        latched: messages published before the start that a reader needs, for the head of the bag.

    Raises:
        RecordingError: if the head cannot be written.
    """

    def __init__(
        self,
        writer: BagWriter,
        info: EpisodeInfo,
        directory: PublisherDirectory,
        topics: Mapping[str, TopicSpec],
        latched: Iterable[Received] = (),
    ) -> None:
        self._writer = writer
        self._info = info
        self._topics = topics
        self._unrecorded: dict[str, str] = {}
        self._expected_nodes: set[str] = set()
        self.account = EpisodeAccount(directory)
        for spec in list(topics.values()):
            self._declare(spec)
        for message in latched:
            if self._is_writable(message.topic):
                self._writer.write(message.topic, message.receive_ns, message.data)
                self.account.add_latched(message.topic)

    def expect_answers(self, nodes: Iterable[str]) -> None:
        """Name nodes that should report their counts; those that do not are listed at the end."""
        self._expected_nodes |= set(nodes)

    def add(self, message: Received) -> None:
        """Write a message unless it is there already.

        Raises:
            RecordingError: if the bag cannot be written.
        """
        if not self._is_writable(message.topic):
            return
        if self.account.add_message(message.topic, message.gid, message.number) is (
            Disposition.WRITE
        ):
            self._writer.write(message.topic, message.receive_ns, message.data)

    def report(self, report: NodeReport, mark: Mark) -> None:
        """Take in a node's counts."""
        self.account.add_report(report, mark)

    def missing_answers(self, mark: Mark) -> set[str]:
        """Return the nodes that have not answered a mark."""
        return self._expected_nodes - self.account.answered(mark)

    def poll(self, now_ns: int) -> None:
        """Flush when due; call often with the monotonic time [ns].

        Raises:
            RecordingError: if the disk is too full or refuses.
        """
        self._writer.poll(now_ns)

    def finish(
        self, outcome: Outcome, end_ns: int, *, queue_dropped: int = 0, note: str = ""
    ) -> SessionResult:
        """Complete the bag.

        Raises:
            RecordingError: if that fails; the ``.partial`` folder then stays, marked aborted.
        """
        info = self._final_info(outcome, end_ns, queue_dropped, note)
        return SessionResult(path=self._writer.close(info), info=info)

    def abort(self, end_ns: int, note: str) -> SessionResult:
        """Give up after an error; never raises."""
        info = self._final_info(Outcome.ABORTED, end_ns, 0, note)
        return SessionResult(path=self._writer.abort(info), info=info)

    def discard(self, end_ns: int) -> SessionResult:
        """Delete what was written."""
        info = self._final_info(Outcome.ABORTED, end_ns, 0, "discarded")
        self._writer.discard()
        return SessionResult(path=self._writer.path, info=info)

    def _final_info(
        self, outcome: Outcome, end_ns: int, queue_dropped: int, note: str
    ) -> EpisodeInfo:
        totals = self.account.totals()
        types = {name: spec.msgtype for name, spec in self._topics.items() if name in totals}
        return self._info.replace(
            outcome=outcome,
            end_ns=end_ns,
            topics=totals,
            types=types,
            silent_nodes=tuple(sorted(self.missing_answers(Mark.STOP))),
            unrecorded=dict(self._unrecorded),
            queue_dropped=queue_dropped,
            note=note,
        )

    def _is_writable(self, topic: str) -> bool:
        if self._writer.has_topic(topic):
            return True
        spec = self._topics.get(topic)
        if spec is None or topic in self._unrecorded:
            return False
        self._declare(spec)
        return self._writer.has_topic(topic)

    def _declare(self, spec: TopicSpec) -> None:
        """Add a topic; one whose type has no definition must not cost the whole recording."""
        try:
            self._writer.add_topic(spec.name, spec.msgtype, spec.qos)
        except RecordingError as error:
            self._unrecorded[spec.name] = str(error)
