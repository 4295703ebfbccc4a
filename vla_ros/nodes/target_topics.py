# SPDX-License-Identifier: Apache-2.0
"""Plain targets from topics to the control host: pose, joints, wrench, stiffness.

A target in a message of its own is what simple clients send, at any rate from 2 to 250 Hz. It moves
the arm only while the source ``topic`` holds authority. An empty ``frame_id`` means the base frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.nodes.base import VlaNode

_NEWEST = 1  # queue length: an older target is worth nothing once a newer one is there
_SPEAK_EVERY_NS = NS_PER_S


class TargetTopics:
    """Subscribes for one arm; refusals are said with their reason, each at most once per second.

    Args:
        change_law: called with a function that changes a law; raises ``vla_ros_core.Error``.
        prefix: before the names of the topics, for every arm but the first.
    """

    def __init__(
        self,
        node: VlaNode,
        host: core.ControlHost,
        change_law: Callable[[Callable[[core.LawConfig], None]], None],
        arm: str = "",
        prefix: str = "",
    ) -> None:
        self._node, self._host, self._arm = node, host, arm
        self._change_law = change_law
        self.refusals: Counter[str] = Counter()
        self._said_ns: dict[str, int] = {}
        for name, kind, handle in (
            ("target_pose", PoseStamped, self._on_pose),
            ("target_joint", JointState, self._on_joint),
            ("target_wrench", WrenchStamped, self._on_wrench),
            ("target_stiffness", Float64MultiArray, self._on_stiffness),
        ):
            node.create_subscription(kind, prefix + name, handle, _NEWEST)

    def _stamp_ns(self, stamp: Time) -> int:
        if stamp.sec == 0 and stamp.nanosec == 0:
            return 0  # not said: when it arrives
        return self._node.times.to_monotonic(stamp)

    def _judge(self, topic: str, reason: str) -> None:
        if not reason:
            return
        words = f"{topic} refused: {reason}"
        self.refusals[words] += 1
        now_ns = core.monotonic_ns()
        if now_ns - self._said_ns.get(words, 0) >= _SPEAK_EVERY_NS:
            self._said_ns[words] = now_ns
            self._node.get_logger().warning(words)

    def _on_pose(self, message: PoseStamped) -> None:
        p, q = message.pose.position, message.pose.orientation
        reason = self._host.set_target_pose(
            [p.x, p.y, p.z],
            [q.x, q.y, q.z, q.w],
            frame=message.header.frame_id,
            stamp_ns=self._stamp_ns(message.header.stamp),
            arm=self._arm,
        )
        self._judge("target_pose", reason)

    def _on_joint(self, message: JointState) -> None:
        reason = self._host.set_target_joint(
            list(message.name),
            list(message.position),
            list(message.velocity),
            stamp_ns=self._stamp_ns(message.header.stamp),
            arm=self._arm,
        )
        self._judge("target_joint", reason)

    def _on_wrench(self, message: WrenchStamped) -> None:
        f, t = message.wrench.force, message.wrench.torque
        reason = self._host.set_target_wrench(
            [f.x, f.y, f.z, t.x, t.y, t.z],
            frame=message.header.frame_id,
            stamp_ns=self._stamp_ns(message.header.stamp),
            arm=self._arm,
        )
        self._judge("target_wrench", reason)

    def _on_stiffness(self, message: Float64MultiArray) -> None:
        values = np.array(message.data, dtype=float)
        if len(values) not in (6, 36):
            self._judge("target_stiffness", f"needs 6 or 36 values, got {len(values)}")
            return
        stiffness = np.diag(values) if len(values) == 6 else values.reshape(6, 6)

        def change(law: core.LawConfig) -> None:
            gains: Any = law.gains
            gains.stiffness = stiffness
            law.gains = gains

        try:
            self._change_law(change)
        except core.Error as error:
            self._judge("target_stiffness", str(error))
