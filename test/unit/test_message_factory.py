# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from vla_ros.recording.message_factory import MessageFactory
from vla_ros.recording.message_types import MessageTypes


def test_messages_survive_being_written_and_read():
    m = MessageFactory(MessageTypes())
    kind = "vla_ros_msgs/msg/ActionChunk"
    chunk = m.make(
        kind,
        header=m.header(1_500_000_000, "base"),
        poses=[m.pose((0.1, 0.2, 0.3), (1.0, 0.0, 0.0, 0.0))],
        gripper_width_m=np.array([0.08]),
        phase="reach",
    )
    read = m.types.store.deserialize_cdr(m.serialise(chunk, kind), kind)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1, 500_000_000)
    assert read.header.frame_id == "base"
    assert read.poses[0].position.y == 0.2
    assert read.gripper_width_m.tolist() == [0.08]
    assert read.phase == "reach"
    assert read.done is False
    assert read.stamp.seq == 0
    assert len(read.stamp.clock_id) == 16


def test_twists_are_linear_first():
    m = MessageFactory(MessageTypes())
    twist = m.twist((1, 2, 3, 4, 5, 6))
    assert (twist.linear.z, twist.angular.x) == (3.0, 4.0)
