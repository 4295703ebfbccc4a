# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of a publisher and of the recorder itself, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from vla_ros_msgs.msg import PublisherCounts, RecordingMark  # noqa: E402
from vla_ros_msgs.srv import StartRecording, StopRecording  # noqa: E402

from vla_ros.errors import RecordingError  # noqa: E402
from vla_ros.nodes.processes import run_environment, take_domain  # noqa: E402
from vla_ros.recording.bag_writer import BagConfig  # noqa: E402
from vla_ros.recording.episode import Outcome, read_episode  # noqa: E402
from vla_ros.recording.recovery import (  # noqa: E402
    PartialMcap,
    find_partials,
    recover_partial,
)

pytestmark = pytest.mark.ros

LIMIT_S = 60.0
ENOUGH = 50
RECORDER = """
    from vla_ros.nodes.recorder_node import RecorderNode
    # Nothing here publishes what a robot does: wait for the numbers alone.
    settings = ("expected_topics:=numbers", "connect_limit_s:=10.0")
    rclpy.init(args=["--ros-args", *(word for s in settings for word in ("-p", s))])
    node = RecorderNode()
    node.trigger_configure()
    node.trigger_activate()
    rclpy.spin(node)
"""
PUBLISHER = """
    import threading, time
    from std_msgs.msg import String
    from vla_ros.nodes.base import VlaNode
    from vla_ros.nodes.recorder_node import RecorderConfig
    class Victim(VlaNode):
        config_type = RecorderConfig
    rclpy.init()
    node = Victim("victim_node")
    numbers = node.create_counted_publisher(String, "numbers")
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()
    number = 0
    while True:
        number += 1
        numbers.publish(String(data=f"{node.incarnation} {number}"))
        time.sleep(0.005)
"""


class Processes:
    """Starts scripts as processes and makes sure that none is left."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> subprocess.Popen[bytes]:
        code = "import rclpy\n" + textwrap.dedent(script)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self._all.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        return self._all[-1]

    def close(self) -> None:
        for process in self._all:
            process.kill()
            process.wait(10)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of its own: a second recorder or publisher would be taken for one of ours."""
    number, lock = take_domain()
    for name, value in run_environment(number).items():
        monkeypatch.setenv(name, value)
    yield number
    lock.close()


@pytest.fixture
def processes(domain: int) -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()


@pytest.fixture
def caller(domain: int) -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("caller", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    yield node
    executor.shutdown(timeout_sec=2)
    node.destroy_node()
    context.try_shutdown()


class Recording:
    """What a bag says about the runs of the publisher; a run is known by its incarnation.

    Attributes:
        numbers: which of its messages are in the bag.
        reports: (label of the mark that it answers, messages published so far), in order.
    """

    def __init__(self, messages: Iterable[tuple[str, bytes]]) -> None:
        self.numbers: dict[str, list[int]] = {}
        self.reports: dict[str, list[tuple[str, int]]] = {}
        labels: dict[int, str] = {}
        counts: list[PublisherCounts] = []
        for topic, data in messages:
            if topic == "/numbers":
                run, number = deserialize_message(data, String).data.split()
                self.numbers.setdefault(run, []).append(int(number))
            elif topic == "/recording/mark":
                mark = deserialize_message(data, RecordingMark)
                labels[mark.mark_id] = mark.label
            elif topic == "/publisher_counts":
                counts.append(deserialize_message(data, PublisherCounts))
        for report in counts:
            for t in report.topics:
                if t.topic == "/numbers":
                    said = (labels.get(report.mark_id, ""), t.published)
                    self.reports.setdefault(report.incarnation, []).append(said)

    def has_enough_of(self, runs: int) -> bool:
        """Say whether that many runs are recorded and can be accounted for."""
        ready = [run for run, n in self.numbers.items() if len(n) > ENOUGH and run in self.reports]
        return len(ready) == runs

    def published_by(self, run: str) -> set[int]:
        """Return what a run published between start and stop of the recording.

        One that began later counts from its first message, heard or not; one that was killed up to
        the last thing known of it.
        """
        reports = self.reports[run]
        answers = dict(reports)
        known = max(*self.numbers[run], *(count for _, count in reports))
        return set(range(answers.get("start", 0) + 1, answers.get("stop", known) + 1))


def read_bag(bag: Path) -> Recording:
    with Reader(bag) as reader:
        return Recording((c.topic, bytes(data)) for c, _, data in reader.messages())


def read_partial(folder: Path) -> Recording:
    """Read what is on disk of the recording under way."""
    (path,) = find_partials(folder)
    (mcap,) = path.glob("*.mcap")
    with mcap.open("rb") as file:
        try:
            return Recording((c.topic, data) for c, _, data in PartialMcap(file).messages())
        except RecordingError:  # nothing yet
            return Recording([])


def wait(condition: Callable[[], bool], period_s: float = 0.02) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(period_s)


def wait_for_runs(folder: Path, runs: int) -> None:
    """Wait until enough messages of that many runs of the publisher are on disk."""
    wait(lambda: read_partial(folder).has_enough_of(runs), 0.1)


def call(node: Any, kind: Any, name: str, request: Any) -> Any:
    client = node.create_client(kind, name)
    assert client.wait_for_service(LIMIT_S)
    future = client.call_async(request)
    wait(future.done)
    assert future.result().success, future.result().message
    return future.result()


def stop_recording(node: Any, outcome: str) -> Path:
    request = StopRecording.Request(outcome=outcome)
    return Path(call(node, StopRecording, "recorder_node/stop", request).path)


def start_recording(node: Any, folder: Path) -> None:
    """Start; again if the publisher has not heard of the recorder, whose mark then went nowhere."""
    request = StartRecording.Request(episode_id=1, instruction="x", directory=str(folder))

    def is_started() -> bool:
        started = call(node, StartRecording, "recorder_node/start", request)
        if "no answer" in started.message:
            stop_recording(node, "discard")
            return False
        return True

    wait(is_started)


def test_killed_and_restarted_publisher_is_accounted_for(
    processes: Processes, caller: Any, tmp_path: Path
) -> None:
    processes.start(RECORDER)
    victim = processes.start(PUBLISHER)
    start_recording(caller, tmp_path)
    wait_for_runs(tmp_path, 1)
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    processes.start(PUBLISHER)
    wait_for_runs(tmp_path, 2)
    path = stop_recording(caller, "success")
    total = read_episode(path).topics["/numbers"]
    assert total.published == total.recorded + total.lost
    assert total.uncounted == 0
    recording = read_bag(path)
    assert len(recording.numbers) == 2
    assert min(len(numbers) for numbers in recording.numbers.values()) > ENOUGH
    assert sum(len(numbers) for numbers in recording.numbers.values()) == total.written
    gaps = 0
    published = 0
    for run, numbers in recording.numbers.items():
        published += len(recording.published_by(run))
        gaps += len(recording.published_by(run) - set(numbers))
    assert gaps == total.lost
    assert published == total.published


def test_killed_recorder_leaves_a_recoverable_partial(
    processes: Processes, caller: Any, tmp_path: Path
) -> None:
    recorder = processes.start(RECORDER)
    processes.start(PUBLISHER)
    start_recording(caller, tmp_path)
    wait_for_runs(tmp_path, 1)  # so few messages fill no chunk: they are there because time passed
    (on_disk,) = read_partial(tmp_path).numbers.values()
    recorder.send_signal(signal.SIGKILL)
    recorder.wait(10)
    (partial,) = find_partials(tmp_path)
    assert read_episode(partial).outcome is Outcome.RECORDING
    report = recover_partial(partial, config=BagConfig(min_free_bytes=0))
    (numbers,) = read_bag(report.path).numbers.values()
    recovered = sorted(numbers)  # a bag is read in the order of reception
    assert recovered == list(range(recovered[0], recovered[0] + len(recovered)))
    assert set(on_disk) <= set(recovered)
    assert read_episode(report.path).outcome is Outcome.RECOVERED
