# SPDX-License-Identifier: Apache-2.0
"""The recorder among real publishers: everything published is recorded or shown as lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosbags.interfaces import QosDurability  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from vla_ros_msgs.srv import StartRecording, StopRecording  # noqa: E402

from vla_ros.nodes.base import LATCHED, VlaNode  # noqa: E402
from vla_ros.nodes.recorder_node import RecorderConfig, RecorderNode  # noqa: E402
from vla_ros.recording.episode import Outcome, read_episode  # noqa: E402

pytestmark = pytest.mark.ros


class Source(VlaNode):
    """Publishes numbered joint states from a thread of its own."""

    config_type = RecorderConfig

    def __init__(self) -> None:
        super().__init__("source_node")
        self.joints = self.create_counted_publisher(JointState, "joint_states")
        self.fixed = self.create_counted_publisher(String, "robot_description", LATCHED)
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.noisy = self.create_counted_publisher(String, "noisy", best_effort)
        self.image = self.create_counted_publisher(Image, "scene_camera/image_raw")
        self.fixed.publish(String(data="<robot/>"))

    def burst(self, count: int, pause_s: float = 0.0005) -> None:
        for i in range(count):
            message = JointState(name=["j"], position=[float(i)])
            self.joints.publish(message)
            self.noisy.publish(String(data=str(i)))
            time.sleep(pause_s)


class Cell:
    """Recorder and source in one process, each spun by its own thread."""

    def __init__(self) -> None:
        rclpy.init(domain_id=50 + os.getpid() % 50)
        self.source = Source()
        self.recorder = RecorderNode()
        self.caller = rclpy.create_node("caller")
        self._executors = []
        for node in (self.source, self.recorder, self.caller):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            threading.Thread(target=executor.spin, daemon=True).start()
            self._executors.append(executor)
        self.recorder.trigger_configure()
        self.recorder.trigger_activate()
        self.start_client = self.caller.create_client(StartRecording, "recorder_node/start")
        self.stop_client = self.caller.create_client(StopRecording, "recorder_node/stop")
        assert self.start_client.wait_for_service(10)
        assert wait(lambda: "/joint_states" in self.recorder._known)

    def start(self, folder: Path, episode: int = 1) -> Any:
        request = StartRecording.Request(
            episode_id=episode, instruction="put the red cube in the cyan bowl"
        )
        request.directory = str(folder)
        return call(self.start_client, request)

    def stop(self, outcome: str = "success") -> Any:
        return call(self.stop_client, StopRecording.Request(outcome=outcome, note="test"))

    def close(self) -> None:
        self.recorder.on_stop()
        for executor in self._executors:
            executor.shutdown(timeout_sec=2)
        rclpy.try_shutdown()


def wait(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def call(client: Any, request: Any) -> Any:
    future = client.call_async(request)
    assert wait(future.done, 20.0)
    return future.result()


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    running = Cell()
    yield running
    running.close()


def messages_per_topic(bag: Path) -> dict[str, int]:
    with Reader(bag) as reader:
        return {c.topic: c.msgcount for c in reader.connections}


def test_everything_published_is_recorded_or_lost(cell: Cell, tmp_path: Path) -> None:
    started = cell.start(tmp_path)
    assert started.success, started.message
    before = cell.source.joints.count
    cell.source.burst(1500)
    stopped = cell.stop()
    assert stopped.success, stopped.message
    assert stopped.published == stopped.recorded + stopped.lost
    info = read_episode(Path(stopped.path))
    joints = info.topics["/joint_states"]
    assert joints.published == cell.source.joints.count - before == 1500
    assert joints.lost == 0
    assert info.topics["/noisy"].published == 1500
    assert info.outcome is Outcome.SUCCESS
    assert info.silent_nodes == ()
    in_bag = messages_per_topic(Path(stopped.path))
    assert {t: n for t, n in in_bag.items() if n} == {
        t: a.written for t, a in info.topics.items() if a.written
    }


def test_latched_topics_open_the_bag_and_raw_images_are_left_out(
    cell: Cell, tmp_path: Path
) -> None:
    assert cell.start(tmp_path, 2).success
    cell.source.image.publish(Image())
    bag = Path(cell.stop("failure").path)
    in_bag = messages_per_topic(bag)
    assert in_bag["/robot_description"] == 1
    assert "/scene_camera/image_raw" not in in_bag
    with Reader(bag) as reader:
        (offered,) = [
            c.ext.offered_qos_profiles
            for c in reader.connections
            if c.topic == "/robot_description"
        ]
        assert offered[0].durability == QosDurability.TRANSIENT_LOCAL
    info = read_episode(bag)
    assert info.topics["/robot_description"].latched == 1
    assert "/scene_camera/image_raw" not in info.topics
    assert info.outcome is Outcome.FAILURE


def test_topic_that_appears_while_recording_is_recorded(cell: Cell, tmp_path: Path) -> None:
    assert cell.start(tmp_path, 3).success
    late = cell.source.create_counted_publisher(String, "late", 10)
    assert wait(lambda: "/late" in cell.recorder._known)
    assert wait(lambda: late.has_subscribers)
    for _ in range(5):
        late.publish(String(data="x"))
    info = read_episode(Path(cell.stop().path))
    assert (info.topics["/late"].recorded, info.topics["/late"].lost) == (5, 0)


def test_services_refuse_what_makes_no_sense(cell: Cell, tmp_path: Path) -> None:
    assert "nothing is being recorded" in cell.stop().message
    assert cell.start(tmp_path, 4).success
    assert "in progress" in cell.start(tmp_path, 5).message
    refused = cell.stop("great")
    assert not refused.success
    assert "success, failure, discard" in refused.message
    assert cell.stop("discard").success
    assert list(tmp_path.iterdir()) == []
    assert cell.start(tmp_path, 4).success
    assert cell.stop().success
    again = cell.start(tmp_path, 4)
    assert not again.success
    assert "exists already" in again.message


def test_deactivation_completes_the_episode_as_aborted(cell: Cell, tmp_path: Path) -> None:
    assert cell.start(tmp_path, 6).success
    cell.source.burst(50)
    cell.recorder.trigger_deactivate()
    assert read_episode(tmp_path / "episode_6").outcome is Outcome.ABORTED
    assert "not active" in cell.start(tmp_path, 7).message
    cell.recorder.trigger_activate()
    assert cell.start(tmp_path, 7).success
    assert cell.stop().success
