# SPDX-License-Identifier: Apache-2.0
"""The writing thread: order, bounded queue, errors that abort, the account it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recording_samples import NO_FLOOR, START_NS, Messages, qos
from rosbags.rosbag2 import Reader

from vla_ros.clock import NS_PER_S, ManualClock
from vla_ros.errors import ConfigError, RecordingError
from vla_ros.recording.counts import Mark, NodeReport
from vla_ros.recording.episode import EpisodeInfo, Outcome, read_episode
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.recovery import find_partials
from vla_ros.recording.session import Received, TopicSpec
from vla_ros.recording.worker import QueueConfig, RecordingWorker

INFO = EpisodeInfo(episode_id=3, instruction="x", start_ns=START_NS)
STRING = "std_msgs/msg/String"
GID = bytes(range(16))


@pytest.fixture(scope="module")
def types() -> MessageTypes:
    return MessageTypes()


def text(types: MessageTypes, number: int, topic: str = "/text", gid: bytes = GID) -> Received:
    m = Messages(types)
    data = m.cdr(m.make(STRING, data=f"message {number}"), STRING)
    return Received(topic, gid, number, START_NS + number, data)


def counts(published: int) -> NodeReport:
    return NodeReport(node="/n", incarnation="a", gid=GID, counts={"/text": published})


def make_worker(types: MessageTypes, **options: object) -> RecordingWorker:
    values = {"bag": NO_FLOOR, "clock": ManualClock(), "system_ns": lambda: START_NS + NS_PER_S}
    worker = RecordingWorker(types, **(values | options))  # type: ignore[arg-type]
    worker.set_topic(TopicSpec(name="/text", msgtype=STRING, qos=(qos(),)))
    return worker


def texts(types: MessageTypes, bag: Path) -> list[str]:
    with Reader(bag) as reader:
        return [types.store.deserialize_cdr(d, c.msgtype).data for c, _, d in reader.messages()]


def test_episode_holds_latched_and_offered_messages_and_the_account(
    types: MessageTypes, tmp_path: Path
) -> None:
    worker = make_worker(types)
    worker.observe_publisher(GID, "/n")
    worker.offer(text(types, 5))
    begun = worker.begin(tmp_path, INFO, [text(types, 1)], ["/n", "/quiet"])
    worker._round()
    assert begun.result(0) == tmp_path / "episode_3.partial"
    worker.report(counts(5), Mark.START)
    for number in (6, 7, 9):
        worker.offer(text(types, number))
    worker._round()
    assert worker.progress.missing_start == {"/quiet"}
    worker.report(counts(10), Mark.STOP)
    worker._round()
    assert worker.progress.missing_stop == {"/quiet"}
    assert not worker.progress.is_tail_complete
    worker.offer(text(types, 10))
    worker._round()
    assert worker.progress.is_tail_complete
    finished = worker.finish(Outcome.SUCCESS)
    worker.offer(text(types, 11))
    worker._round()
    result = finished.result(0)
    assert texts(types, result.path) == [f"message {n}" for n in (1, 6, 7, 9, 10)]
    info = read_episode(result.path)
    total = info.topics["/text"]
    assert (total.published, total.recorded, total.lost, total.latched) == (5, 4, 1, 1)
    assert (info.outcome, info.silent_nodes, info.types) == (
        Outcome.SUCCESS,
        ("/quiet",),
        {"/text": STRING},
    )


def test_full_queue_drops_and_the_account_shows_it(types: MessageTypes, tmp_path: Path) -> None:
    worker = make_worker(types, queue=QueueConfig(max_messages=3))
    worker.begin(tmp_path, INFO)
    worker._round()
    worker.report(counts(0), Mark.START)
    worker._round()
    for number in range(1, 11):
        worker.offer(text(types, number))
    assert worker.dropped == 7
    worker._round()
    worker.report(counts(10), Mark.STOP)
    finished = worker.finish(Outcome.FAILURE)
    worker._round()
    info = finished.result(0).info
    assert (info.published, info.recorded, info.lost, info.queue_dropped) == (10, 3, 7, 7)


def test_too_many_waiting_bytes_drop(types: MessageTypes, tmp_path: Path) -> None:
    worker = make_worker(types, queue=QueueConfig(max_bytes=40))
    worker.begin(tmp_path, INFO)
    worker._round()
    for number in range(1, 5):
        worker.offer(text(types, number))
    assert worker.dropped == 1
    worker._round()
    worker.offer(text(types, 6))
    assert worker.dropped == 1


def test_disk_trouble_aborts_and_finish_says_why(types: MessageTypes, tmp_path: Path) -> None:
    clock = ManualClock()
    worker = make_worker(types, clock=clock)
    worker.begin(tmp_path, INFO)
    worker._round()
    assert worker._session is not None
    worker._session._writer._free = lambda _: -1
    clock.advance(NS_PER_S)
    worker.offer(text(types, 1))
    worker._round()
    assert not worker.is_recording
    assert "GiB free" in worker.progress.error
    finished = worker.finish(Outcome.SUCCESS)
    worker._round()
    with pytest.raises(RecordingError, match=r"aborted.*GiB free"):
        finished.result(0)
    (partial,) = find_partials(tmp_path)
    assert read_episode(partial).outcome is Outcome.ABORTED


def test_topic_without_definition_is_listed_and_costs_nothing_else(
    types: MessageTypes, tmp_path: Path
) -> None:
    worker = make_worker(types)
    worker.set_topic(TopicSpec(name="/odd", msgtype="odd_msgs/msg/Odd"))
    worker.begin(tmp_path, INFO)
    worker._round()
    worker.offer(text(types, 1, "/odd"))
    worker.offer(text(types, 1))
    finished = worker.finish(Outcome.SUCCESS)
    worker._round()
    result = finished.result(0)
    assert texts(types, result.path) == ["message 1"]
    assert "odd_msgs/msg/Odd" in result.info.unrecorded["/odd"]


def test_begin_twice_and_finish_without_begin_are_refused(
    types: MessageTypes, tmp_path: Path
) -> None:
    worker = make_worker(types)
    early = worker.finish(Outcome.SUCCESS)
    first, second = worker.begin(tmp_path, INFO), worker.begin(tmp_path, INFO)
    worker._round()
    assert first.result(0)
    with pytest.raises(RecordingError, match="nothing is being recorded"):
        early.result(0)
    with pytest.raises(RecordingError, match="in progress"):
        second.result(0)


def test_discard_deletes(types: MessageTypes, tmp_path: Path) -> None:
    worker = make_worker(types)
    worker.begin(tmp_path, INFO)
    finished = worker.finish(None)
    worker._round()
    assert finished.result(0).info.note == "discarded"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def running(types: MessageTypes) -> Iterator[RecordingWorker]:
    worker = make_worker(types)
    worker.start()
    yield worker
    worker.stop()


def test_thread_writes_and_stop_completes_as_aborted(
    running: RecordingWorker, types: MessageTypes, tmp_path: Path
) -> None:
    running.begin(tmp_path, INFO).result(10)
    for number in range(1, 501):
        running.offer(text(types, number))
    running.stop()
    info = read_episode(tmp_path / "episode_3")
    assert info.outcome is Outcome.ABORTED
    assert len(texts(types, tmp_path / "episode_3")) == 500


def test_queue_config_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_messages"):
        QueueConfig(max_messages=0)
