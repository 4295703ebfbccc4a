# SPDX-License-Identifier: Apache-2.0
"""Accounting of a recording: published = recorded + lost, per topic.

Every message carries the sequence number that its publisher gave it (1, 2, ...), and every node
says how many messages it has published when the recording starts and when it stops. The *window* of
a publisher is the numbers after the first count up to and including the second. What of the window
is in the recording is "recorded", the gaps are "lost". Nothing here knows ROS, a clock or a file.
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

GID_PREFIX_BYTES = 12
"""Length of the part of a DDS identity that all endpoints of one participant share."""


class SequenceSet:
    """Set of positive sequence numbers, kept as closed intervals; adding in order costs O(1)."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def highest(self) -> int:
        """Largest number in the set; 0 when empty."""
        return self._last[-1] if self._last else 0

    def add(self, number: int) -> bool:
        """Add a number; return False if it was there already."""
        i = bisect.bisect_right(self._first, number) - 1
        if i >= 0 and number <= self._last[i]:
            return False
        self._size += 1
        touches_left = i >= 0 and self._last[i] == number - 1
        touches_right = i + 1 < len(self._first) and self._first[i + 1] == number + 1
        if touches_left and touches_right:
            self._last[i] = self._last.pop(i + 1)
            del self._first[i + 1]
        elif touches_left:
            self._last[i] = number
        elif touches_right:
            self._first[i + 1] = number
        else:
            self._first.insert(i + 1, number)
            self._last.insert(i + 1, number)
        return True

    def count_between(self, after: int, last: int) -> int:
        """Return how many of ``after + 1 .. last`` are in the set."""
        pairs = zip(self._first, self._last, strict=True)
        return sum(max(0, min(b, last) - max(a, after + 1) + 1) for a, b in pairs)

    def gaps_between(self, after: int, last: int) -> list[tuple[int, int]]:
        """Return the runs of ``after + 1 .. last`` that are not in the set, as (first, last)."""
        gaps = []
        expected = after + 1
        for a, b in zip(self._first, self._last, strict=True):
            if b < expected:
                continue
            if a > last:
                break
            if a > expected:
                gaps.append((expected, a - 1))
            expected = b + 1
        if expected <= last:
            gaps.append((expected, last))
        return gaps


class Mark(enum.Enum):
    """Why a node reported its counts."""

    PERIODIC = 0
    START = 1
    STOP = 2


class Disposition(enum.Enum):
    """What to do with a message."""

    WRITE = 0
    DUPLICATE = 1


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """How many messages one node has published, per topic.

    Attributes:
        node: fully qualified name.
        incarnation: differs after every restart of the node.
        gid: identity of the publisher that sent the report; its prefix names the process.
        counts: messages published per fully qualified topic since the publisher was created.
    """

    node: str
    incarnation: str
    gid: bytes
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TopicAccount:
    """What became of the messages of one topic during one recording.

    ``published == recorded + lost`` within the window. ``latched`` were published before the start
    and written at the head; ``outside`` arrived just before or after the window and are written as
    well; ``uncounted`` come from publishers that do not report counts. ``duplicates`` are not
    written. ``written`` is what a reader finds in the bag.
    """

    published: int = 0
    recorded: int = 0
    lost: int = 0
    latched: int = 0
    outside: int = 0
    uncounted: int = 0
    duplicates: int = 0

    @property
    def written(self) -> int:
        """Messages of this topic in the bag."""
        return self.recorded + self.latched + self.outside + self.uncounted


@dataclass
class _Publisher:
    """One publisher as seen by the recorder."""

    topic: str
    numbers: SequenceSet = field(default_factory=SequenceSet)
    unnumbered: int = 0


@dataclass
class _Incarnation:
    """What one run of a node reported during one recording."""

    node: str
    gid: bytes
    born_before_start: bool
    start: dict[str, int] | None = None
    stop: dict[str, int] | None = None
    latest: dict[str, int] = field(default_factory=dict)


class PublisherDirectory:
    """Which publisher belongs to which node, and which nodes run; outlives single recordings."""

    def __init__(self) -> None:
        self._node_of: dict[bytes, str] = {}
        self._incarnations: dict[tuple[str, str], bytes] = {}

    def observe_publisher(self, gid: bytes, node: str) -> None:
        """Note that the publisher ``gid`` belongs to ``node`` (fully qualified)."""
        self._node_of[gid] = node

    def observe_incarnation(self, report: NodeReport) -> None:
        """Note that a run of a node is alive."""
        self._incarnations[(report.node, report.incarnation)] = report.gid

    def knows(self, node: str, incarnation: str) -> bool:
        """Return whether this run of the node was heard of before."""
        return (node, incarnation) in self._incarnations

    def owns(self, node: str, report_gid: bytes, gid: bytes) -> bool:
        """Return whether publisher ``gid`` belongs to the run of ``node`` that sent ``report_gid``.

        The process decides where the middleware's identities show it (DDS); otherwise the node name
        alone does, which cannot tell two runs of one node apart.
        """
        named = self._node_of.get(gid)
        if named is not None and named != node:
            return False
        if gid[:GID_PREFIX_BYTES] == report_gid[:GID_PREFIX_BYTES]:
            return True
        return named == node and not self._prefix_is_known(gid)

    def _prefix_is_known(self, gid: bytes) -> bool:
        prefix = gid[:GID_PREFIX_BYTES]
        return any(known[:GID_PREFIX_BYTES] == prefix for known in self._incarnations.values())


class EpisodeAccount:
    """Accounting of one recording. Single-threaded: one owner feeds messages and reports."""

    def __init__(self, directory: PublisherDirectory) -> None:
        self._directory = directory
        self._publishers: dict[bytes, _Publisher] = {}
        self._anonymous: dict[str, int] = {}
        self._duplicates: dict[str, int] = {}
        self._latched: dict[str, int] = {}
        self._runs: dict[tuple[str, str], _Incarnation] = {}

    def add_message(self, topic: str, gid: bytes, number: int | None) -> Disposition:
        """Count one received message and say whether to write it.

        Args:
            topic: fully qualified topic.
            gid: identity of the publisher; empty if unknown.
            number: the publisher's sequence number, or None if the middleware gives none.
        """
        if not gid:
            self._anonymous[topic] = self._anonymous.get(topic, 0) + 1
            return Disposition.WRITE
        publisher = self._publishers.get(gid)
        if publisher is None:
            publisher = self._publishers[gid] = _Publisher(topic)
        if number is None:
            publisher.unnumbered += 1
        elif not publisher.numbers.add(number):
            self._duplicates[topic] = self._duplicates.get(topic, 0) + 1
            return Disposition.DUPLICATE
        return Disposition.WRITE

    def add_latched(self, topic: str) -> None:
        """Count one message, published before the start, that was written at the head."""
        self._latched[topic] = self._latched.get(topic, 0) + 1

    def add_report(self, report: NodeReport, mark: Mark) -> None:
        """Take in what a node says about its counts.

        A run of a node that was alive before the start but did not answer the start mark begins its
        window at its first later report: what it published before that cannot be judged.
        """
        key = (report.node, report.incarnation)
        known_before = self._directory.knows(*key)
        self._directory.observe_incarnation(report)
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Incarnation(report.node, report.gid, known_before)
        counts = dict(report.counts)
        run.latest = counts
        if mark is Mark.START:
            run.start = counts
        elif mark is Mark.STOP:
            run.stop = counts
        elif run.start is None and run.born_before_start:
            run.start = counts

    def answered(self, mark: Mark) -> set[str]:
        """Return the nodes that have answered a mark."""
        return {
            run.node
            for run in self._runs.values()
            if (run.start if mark is Mark.START else run.stop) is not None
        }

    def is_tail_complete(self) -> bool:
        """Return whether the last message of every window has arrived."""
        return all(
            max((p.numbers.highest for _, p in self._owned(run, topic)), default=0) >= last
            for run in self._runs.values()
            for topic, (first, last) in self._windows(run).items()
            if last > first
        )

    def totals(self) -> dict[str, TopicAccount]:
        """Return the account of every topic that was counted or heard."""
        sums: dict[str, dict[str, int]] = {}
        judged: set[bytes] = set()
        for run in self._runs.values():
            for topic, (after, last) in self._windows(run).items():
                owned = self._owned(run, topic)
                row = _row(sums, topic)
                row["published"] += last - after
                numbers = _union(p.numbers for _, p in owned)
                row["recorded"] += numbers.count_between(after, last)
                row["lost"] += sum(b - a + 1 for a, b in numbers.gaps_between(after, last))
                row["outside"] += sum(
                    len(p.numbers) - p.numbers.count_between(after, last) for _, p in owned
                )
                judged.update(gid for gid, _ in owned)
        for gid, publisher in self._publishers.items():
            row = _row(sums, publisher.topic)
            row["uncounted"] += publisher.unnumbered
            if gid not in judged:
                row["uncounted"] += len(publisher.numbers)
        for name, counted in (
            ("uncounted", self._anonymous),
            ("latched", self._latched),
            ("duplicates", self._duplicates),
        ):
            for topic, count in counted.items():
                _row(sums, topic)[name] += count
        return {topic: TopicAccount(**row) for topic, row in sorted(sums.items())}

    def _owned(self, run: _Incarnation, topic: str) -> list[tuple[bytes, _Publisher]]:
        return [
            (gid, p)
            for gid, p in self._publishers.items()
            if p.topic == topic and self._directory.owns(run.node, run.gid, gid)
        ]

    def _windows(self, run: _Incarnation) -> dict[str, tuple[int, int]]:
        """Return (after, last) per topic; a run that died silently ends at the last thing known."""
        start = run.start or {}
        end = run.stop if run.stop is not None else run.latest
        windows = {}
        for topic, count in end.items():
            last = count
            if run.stop is None:
                heard = max((p.numbers.highest for _, p in self._owned(run, topic)), default=0)
                last = max(last, heard)
            after = start.get(topic, 0)
            windows[topic] = (after, max(after, last))
        return windows


def _row(sums: dict[str, dict[str, int]], topic: str) -> dict[str, int]:
    names = TopicAccount.__dataclass_fields__
    return sums.setdefault(topic, dict.fromkeys(names, 0))


def _union(sets: Iterable[SequenceSet]) -> SequenceSet:
    """Return the set itself when there is one; a merged copy when a topic was re-created."""
    listed = list(sets)
    if len(listed) == 1:
        return listed[0]
    merged = SequenceSet()
    for numbers in listed:
        for a, b in zip(numbers._first, numbers._last, strict=True):  # noqa: SLF001
            for number in range(a, b + 1):
                merged.add(number)
    return merged
