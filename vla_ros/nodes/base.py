# SPDX-License-Identifier: Apache-2.0
"""What every node has: lifecycle, parameters from a dataclass, counted publishers, diagnostics."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from vla_ros_msgs.msg import PublisherCounts, RecordingMark, TopicCount

from vla_ros.clock import NS_PER_S
from vla_ros.errors import VlaRosError
from vla_ros.nodes.counting import CountingPublisher
from vla_ros.nodes.parameters import check_change, declare_parameters

LATCHED = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
)
# A reliable writer forgets what a slow reader has not fetched within this many messages; deep
# enough that a recorder which loses the processor for a second loses no message.
STREAM_DEPTH = 300


@dataclass(frozen=True)
class NodeHealth:
    """One line for people and the numbers behind it, for /diagnostics."""

    level: bytes
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def ok(cls, message: str, values: Mapping[str, Any] | None = None) -> NodeHealth:
        """Everything is as it should be."""
        return cls(DiagnosticStatus.OK, message, values or {})

    @classmethod
    def warn(cls, message: str, values: Mapping[str, Any] | None = None) -> NodeHealth:
        """Works, but somebody should look."""
        return cls(DiagnosticStatus.WARN, message, values or {})

    @classmethod
    def error(cls, message: str, values: Mapping[str, Any] | None = None) -> NodeHealth:
        """Does not do its work."""
        return cls(DiagnosticStatus.ERROR, message, values or {})


class TimeConverter:
    """Maps CLOCK_MONOTONIC to ROS time with the offset measured once, so stamps never jump."""

    def __init__(self, monotonic_ns: int, system_ns: int) -> None:
        self._offset_ns = system_ns - monotonic_ns

    def to_ros(self, monotonic_ns: int) -> Time:
        """Return the ROS time of an instant of CLOCK_MONOTONIC [ns]."""
        seconds, nanoseconds = divmod(monotonic_ns + self._offset_ns, NS_PER_S)
        return Time(sec=seconds, nanosec=nanoseconds)

    def to_monotonic(self, stamp: Time) -> int:
        """Return the instant of CLOCK_MONOTONIC [ns] of a ROS time."""
        return int(stamp.sec * NS_PER_S + stamp.nanosec - self._offset_ns)


class VlaNode(LifecycleNode):
    """Base of all nodes. Subclasses fill in the ``on_*`` hooks, which may raise ``VlaRosError``."""

    config_type: ClassVar[type[Any]]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.incarnation = uuid.uuid4().hex[:12]
        self._publishers_counted: list[CountingPublisher] = []
        self._publishers_lock = threading.Lock()
        self.times = TimeConverter(time.monotonic_ns(), time.time_ns())
        self.config = declare_parameters(self, self.config_type)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._counts_pub = self.create_counted_publisher(PublisherCounts, "publisher_counts", 100)
        self._diagnostics_pub = self.create_counted_publisher(DiagnosticArray, "/diagnostics", 100)
        self.create_subscription(RecordingMark, "recording/mark", self._on_mark, 10)
        self._is_set_up = False
        self._health_timer = self.create_timer(1.0, self._publish_health)

    # --- for subclasses -------------------------------------------------------------------------

    def on_setup(self, config: Any) -> None:
        """Create what the node needs (lifecycle: configure)."""

    def on_start(self) -> None:
        """Begin to work (lifecycle: activate)."""

    def on_stop(self) -> None:
        """Stop working, safely (lifecycle: deactivate or shutdown)."""

    def on_config_change(self, config: Any) -> None:
        """Take over changed parameters; the configuration has been checked."""

    def health(self) -> NodeHealth:
        """Say how the node is doing."""
        return NodeHealth.ok("running")

    def create_counted_publisher(
        self, message_type: type[Any], topic: str, qos: QoSProfile | int = STREAM_DEPTH
    ) -> CountingPublisher:
        """Create a publisher that takes part in published = recorded + lost."""
        module = message_type.__module__.split(".")
        type_name = f"{module[0]}/{module[1]}/{message_type.__name__}"
        publisher = CountingPublisher(self.create_publisher(message_type, topic, qos), type_name)
        with self._publishers_lock:
            self._publishers_counted.append(publisher)
        return publisher

    def ros_time(self, monotonic_ns: int) -> Time:
        """Return the ROS time of an instant of CLOCK_MONOTONIC [ns]."""
        return self.times.to_ros(monotonic_ns)

    # --- lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: set up."""
        return self._transition("set up", lambda: self.on_setup(self.config), done=True)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: start."""
        super().on_activate(state)
        return self._transition("start", self.on_start)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: stop."""
        super().on_deactivate(state)
        return self._transition("stop", self.on_stop)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: stop for good."""
        return self._transition("stop", self.on_stop)

    def _transition(self, what: str, action: Any, done: bool = False) -> TransitionCallbackReturn:
        try:
            action()
        except VlaRosError as error:
            self.get_logger().error(f"cannot {what}: {error}")
            return TransitionCallbackReturn.FAILURE
        self._is_set_up = self._is_set_up or done
        return TransitionCallbackReturn.SUCCESS

    # --- shared duties --------------------------------------------------------------------------

    def _on_parameters(self, changes: list[Parameter]) -> Any:
        result, config = check_change(self, self.config_type, changes)
        if config is not None:
            self.config = config
            self.on_config_change(config)
        return result

    def _on_mark(self, mark: RecordingMark) -> None:
        self._publish_counts(mark.mark_id)

    def _publish_counts(self, mark_id: int) -> None:
        message = PublisherCounts(
            node=self.get_fully_qualified_name(), incarnation=self.incarnation, mark_id=mark_id
        )
        message.header.stamp = self.ros_time(time.monotonic_ns())
        with self._publishers_lock:
            publishers = list(self._publishers_counted)
        message.topics = [
            TopicCount(topic=p.topic, type=p.type_name, published=p.count) for p in publishers
        ]
        self._counts_pub.publish(message)

    def _publish_health(self) -> None:
        health = self.health() if self._is_set_up else NodeHealth.warn("not configured")
        status = DiagnosticStatus(
            level=health.level, name=self.get_fully_qualified_name(), message=health.message
        )
        status.hardware_id = self.incarnation
        status.values = [KeyValue(key=k, value=str(v)) for k, v in health.values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.ros_time(time.monotonic_ns())
        self._diagnostics_pub.publish(array)
        self._publish_counts(0)


def set_thread_nice(nice: int) -> None:
    """Give the calling thread (and those it makes) a nice value; lowering may be forbidden."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    except PermissionError:
        print(f"nice value {nice} is not permitted", file=sys.stderr)  # noqa: T201


def run_node(node_type: type[VlaNode]) -> None:
    """Run a node until SIGINT, SIGTERM or shutdown; exit with 2 if its parameters are refused."""
    # One way out for both signals: the executor returns and the node stops in order.
    signal.signal(signal.SIGTERM, lambda *_: rclpy.try_shutdown())
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, lambda *_: rclpy.try_shutdown())
    try:
        node = node_type()
    except VlaRosError as error:
        print(f"{node_type.__name__}: {error}", file=sys.stderr)  # noqa: T201
        rclpy.try_shutdown()
        raise SystemExit(2) from error
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.on_stop()
        node.destroy_node()
        rclpy.try_shutdown()
