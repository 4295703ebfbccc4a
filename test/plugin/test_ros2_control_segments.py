# SPDX-License-Identifier: Apache-2.0
"""Segments from shared memory in a real controller manager: lease, epoch, expiry, stop flag."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("vla_ros_msgs", reason="needs vla_ros_msgs")

import mock_robot
from mock_robot import MockRobot, pose_message
from plugin_law import goal, law_torque
from vla_ros_msgs.msg import ControlStatus

import vla_ros_core as core
from vla_ros.latency.stamp import LatencyStamp, StampKind

pytestmark = [pytest.mark.ros, mock_robot.NEEDS_ROS2_CONTROL]


class SegmentSender:
    """Lease and segments to a pose 30 mm away, as executor and supervisor write them."""

    shift = (0.03, 0.0, 0.0)

    def __init__(self, robot: MockRobot) -> None:
        self.robot, self.pose = robot, robot.poses[-1]
        self._lease = core.LeaseWriter(robot.shm_prefix)
        self._segments = core.SegmentWriter(robot.shm_prefix, "policy")

    def send(self, duration_s: float, epoch: int, segment_epoch: int | None = None) -> None:
        target = goal(self.pose, self.shift)
        for _ in range(round(duration_s * 20)):
            now_ns = core.monotonic_ns()
            self._lease.write("policy", epoch, now_ns + 400_000_000)
            stamp = LatencyStamp(kind=StampKind.CHUNK, capture_oldest_ns=now_ns - 50_000_000)
            self._segments.write(
                stamp.to_bytes(),
                np.array([now_ns, now_ns + 300_000_000]),
                np.tile(target["position"], (2, 1)),
                np.tile(target["quat_xyzw"], (2, 1)),
                np.zeros((2, 6)),
                np.array([0.04, 0.04]),
                now_ns + 300_000_000,
                epoch if segment_epoch is None else segment_epoch,
                1,
            )
            self.robot.spin(0.05)

    def close(self) -> None:
        self._lease.close()
        self._segments.close()


@pytest.fixture
def segments(robot: MockRobot) -> Iterator[SegmentSender]:
    robot.activate(mock_robot.SEGMENTS)
    robot.wait(lambda: bool(robot.poses))
    sender = SegmentSender(robot)
    yield sender
    sender.close()


def test_segments_lead_under_their_lease_and_its_end_is_a_hold(segments: SegmentSender) -> None:
    robot = segments.robot
    rest = robot.torque()
    segments.send(duration_s=1.5, epoch=7)
    assert robot.status.mode == ControlStatus.TRACK
    assert (robot.status.source, robot.status.epoch) == ("policy", 7)
    expected = law_torque(robot.urdf, **goal(segments.pose, segments.shift))
    assert np.abs(robot.torque() - expected).max() < 1e-3
    robot.spin(1.5)
    assert robot.status.mode == ControlStatus.HOLD
    assert robot.status.source == ""
    assert robot.status.rows_after_expiry == 0
    assert np.abs(robot.torque() - rest).max() < 1e-3


def test_segment_of_another_epoch_moves_nothing(segments: SegmentSender) -> None:
    robot = segments.robot
    rest = robot.torque()
    before = robot.status.segments_rejected
    segments.send(duration_s=0.5, epoch=7, segment_epoch=6)
    robot.spin(0.2)
    assert robot.status.segments_rejected > before
    assert np.abs(robot.torque() - rest).max() < 1e-3


def test_topic_is_refused_while_a_lease_is_in_force(segments: SegmentSender) -> None:
    robot = segments.robot
    message = pose_message(segments.pose, (0.0, 0.03, 0.0))
    segments.send(duration_s=0.3, epoch=8)
    robot.refused = None
    robot.stream(robot.target_pose, message, 0.1)
    robot.wait(lambda: robot.refused is not None)
    assert robot.refused.message.startswith("target_pose: ")


def test_shared_stop_flag_stops(segments: SegmentSender) -> None:
    robot = segments.robot
    core.StopFlag(robot.shm_prefix + ".stop").request()
    robot.wait(lambda: robot.status.mode == ControlStatus.STOPPED)
    robot.call(f"{mock_robot.SEGMENTS}/resume")
    robot.wait(lambda: robot.status.mode != ControlStatus.STOPPED)
