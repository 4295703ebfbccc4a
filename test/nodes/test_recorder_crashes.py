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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402
from vla_ros_msgs.srv import StartRecording, StopRecording  # noqa: E402

from vla_ros.recording.bag_writer import BagConfig  # noqa: E402
from vla_ros.recording.episode import Outcome, read_episode  # noqa: E402
from vla_ros.recording.recovery import find_partials, recover_partial  # noqa: E402

pytestmark = pytest.mark.ros

DOMAIN = 52 + os.getpid() % 40
RECORDER = """
    from vla_ros.nodes.recorder_node import RecorderNode
    # Nothing here publishes what a robot does: do not wait for it.
    rclpy.init(args=["--ros-args", "-p", "connect_limit_s:=0.3"])
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
        numbers.publish(String(data=str(number)))
        time.sleep(0.005)
"""


class Processes:
    """Starts scripts as processes and makes sure that none is left."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> subprocess.Popen[bytes]:
        code = "import rclpy\n" + textwrap.dedent(script)
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(DOMAIN),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        self._all.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        return self._all[-1]

    def close(self) -> None:
        for process in self._all:
            process.kill()
            process.wait(10)


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()


@pytest.fixture
def caller() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("caller", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    yield node
    executor.shutdown(timeout_sec=2)
    node.destroy_node()
    context.try_shutdown()


def wait(condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def call(node: Any, kind: Any, name: str, request: Any) -> Any:
    client = node.create_client(kind, name)
    assert client.wait_for_service(15)
    future = client.call_async(request)
    wait(future.done)
    assert future.result().success, future.result().message
    return future.result()


def identities(node: Any) -> set[bytes]:
    """Return what tells the publishers of the topic apart."""
    return {bytes(e.endpoint_gid) for e in node.get_publishers_info_by_topic("numbers")}


def start_recording(node: Any, folder: Path) -> None:
    wait(lambda: node.count_subscribers("numbers") == 1)
    request = StartRecording.Request(episode_id=1, instruction="x", directory=str(folder))
    call(node, StartRecording, "recorder_node/start", request)


def numbers_in(bag: Path) -> list[int]:
    with Reader(bag) as reader:
        wanted = [c for c in reader.connections if c.topic == "/numbers"]
        raw = [bytes(data) for _, _, data in reader.messages(connections=wanted)]
    return [int(data[8:].split(b"\0")[0]) for data in raw]


def test_killed_and_restarted_publisher_is_accounted_for(
    processes: Processes, caller: Any, tmp_path: Path
) -> None:
    processes.start(RECORDER)
    victim = processes.start(PUBLISHER)
    start_recording(caller, tmp_path)
    time.sleep(0.5)
    before = identities(caller)
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    processes.start(PUBLISHER)
    wait(lambda: bool(identities(caller) - before))  # the graph still shows the dead one, too
    # Discovery of a publisher that takes the place of a dead one can lag by a heartbeat of 3 s.
    time.sleep(8.0)
    stop = StopRecording.Request(outcome="success")
    stopped = call(caller, StopRecording, "recorder_node/stop", stop)
    total = read_episode(Path(stopped.path)).topics["/numbers"]
    assert total.published == total.recorded + total.lost
    assert total.uncounted == 0
    recorded = numbers_in(Path(stopped.path))
    assert len(recorded) == total.written
    restart = next(i for i in range(1, len(recorded)) if recorded[i] < recorded[i - 1])
    first, second = recorded[:restart], recorded[restart:]
    assert min(len(first), len(second)) > 50
    gaps = (first[-1] - first[0] + 1 - len(first)) + (second[-1] - len(second))
    assert gaps == total.lost


def test_killed_recorder_leaves_a_recoverable_partial(
    processes: Processes, caller: Any, tmp_path: Path
) -> None:
    recorder = processes.start(RECORDER)
    processes.start(PUBLISHER)
    start_recording(caller, tmp_path)
    began = time.monotonic()
    time.sleep(2.0)
    recorder.send_signal(signal.SIGKILL)
    lasted = time.monotonic() - began
    recorder.wait(10)
    (partial,) = find_partials(tmp_path)
    assert read_episode(partial).outcome is Outcome.RECORDING
    report = recover_partial(partial, config=BagConfig(min_free_bytes=0))
    recorded = numbers_in(report.path)
    assert recorded == list(range(recorded[0], recorded[0] + len(recorded)))
    assert len(recorded) > 0.5 * (lasted - 0.6) / 0.005  # half: sleep(5 ms) is longer when busy
    assert read_episode(report.path).outcome is Outcome.RECOVERED
