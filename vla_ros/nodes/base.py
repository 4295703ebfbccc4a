# SPDX-License-Identifier: Apache-2.0
"""What every node has: lifecycle, parameters from a dataclass, counted publishers, diagnostics."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from vla_ros_msgs.msg import PublisherCounts, RecordingMark, TopicCount

from vla_ros.errors import VlaRosError
from vla_ros.nodes.counting import CountingPublisher
from vla_ros.nodes.links import register_links
from vla_ros.nodes.parameters import check_change, declare_parameters
from vla_ros.nodes.process import run_node, set_thread_nice
from vla_ros.nodes.time_converter import TimeConverter

__all__ = [
    "LATCHED",
    "STREAM_DEPTH",
    "NodeHealth",
    "TimeConverter",
    "VlaNode",
    "run_node",
    "set_thread_nice",
]

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


class VlaNode(LifecycleNode):
    """Base of all nodes. Subclasses fill in the ``on_*`` hooks, which may raise ``VlaRosError``."""

    config_type: ClassVar[type[Any]]
    default_nice: ClassVar[int] = 5  # below the control host; a bringup may ask for more

    def __init__(self, name: str) -> None:
        super().__init__(name)
        register_links()
        self.incarnation = uuid.uuid4().hex[:12]
        self._publishers_counted: dict[str, CountingPublisher] = {}
        self._publishers_lock = threading.Lock()
        self._failures = 0
        self._last_failure = ""
        self.times = TimeConverter.measure()
        self.config = declare_parameters(self, self.config_type)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._counts_pub = self.create_counted_publisher(PublisherCounts, "publisher_counts", 100)
        self._diagnostics_pub = self.create_counted_publisher(DiagnosticArray, "/diagnostics", 100)
        self.create_subscription(RecordingMark, "recording/mark", self._on_mark, 10)
        self._is_set_up = False
        self._is_started = False
        self._own_entities: set[int] = set()
        self._health_timer = self.create_timer(1.0, self._publish_health)

    # --- for subclasses -------------------------------------------------------------------------

    def on_setup(self, config: Any) -> None:
        """Create what the node needs (lifecycle: configure)."""

    def on_start(self) -> None:
        """Begin to work (lifecycle: activate)."""

    def on_stop(self) -> None:
        """Stop working, safely (lifecycle: deactivate or shutdown); only after ``on_start``."""

    def on_teardown(self) -> None:
        """Let go of what ``on_setup`` made, other than ROS entities (lifecycle: cleanup)."""

    def on_config_change(self, config: Any) -> None:
        """Take over changed parameters; the configuration has been checked.

        May raise ``VlaRosError``: the change is then refused with its text.
        """

    def health(self) -> NodeHealth:
        """Say how the node is doing."""
        return NodeHealth.ok("running")

    def create_counted_publisher(
        self, message_type: type[Any], topic: str, qos: QoSProfile | int = STREAM_DEPTH
    ) -> CountingPublisher:
        """Create a publisher that takes part in published = recorded + lost."""
        name = self.resolve_topic_name(topic)
        with self._publishers_lock:
            known = self._publishers_counted.get(name)
            if known is not None:  # configured again: the count goes on
                return known
            module = message_type.__module__.split(".")
            type_name = f"{module[0]}/{module[1]}/{message_type.__name__}"
            publisher = CountingPublisher(
                self.create_publisher(message_type, topic, qos), type_name
            )
            self._publishers_counted[name] = publisher
        return publisher

    def ros_time(self, monotonic_ns: int) -> Time:
        """Return the ROS time of an instant of CLOCK_MONOTONIC [ns]."""
        return self.times.to_ros(monotonic_ns)

    # --- lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: set up."""
        self._own_entities = self._list_entities()
        result = self._transition("set up", lambda: self.on_setup(self.config))
        self._is_set_up = result == TransitionCallbackReturn.SUCCESS
        if not self._is_set_up:
            self._destroy_new_entities()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: start."""
        super().on_activate(state)
        self._is_started = True
        return self._transition("start", self.on_start)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: stop."""
        super().on_deactivate(state)
        return self._transition("stop", self._stop_once)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: forget what was set up; publishers stay, for their counts go on."""
        self._is_set_up = False
        result = self._transition("clean up", self.on_teardown)
        self._destroy_new_entities()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: stop for good."""
        return self._transition("stop", self.finish)

    def finish(self) -> None:
        """Stop and let go of everything; what was never set up has nothing to stop."""
        self._stop_once()
        if self._is_set_up:
            self._is_set_up = False
            self.on_teardown()

    def report_failure(self, what: str) -> None:
        """Count and show a callback or step that failed; called by whoever runs it."""
        self._failures += 1
        self._last_failure = what
        self.get_logger().error(f"failed: {what}", throttle_duration_sec=1.0)

    def _stop_once(self) -> None:
        if self._is_started:
            self._is_started = False
            self.on_stop()

    def _transition(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            action()
        except VlaRosError as error:
            self.get_logger().error(f"cannot {what}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # whatever it is, it must be one line that names the node
            self.get_logger().error(f"cannot {what}: {type(error).__name__}: {error}")
            traceback.print_exc()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _list_entities(self) -> set[int]:
        entities = (*self.subscriptions, *self.services, *self.clients, *self.timers)
        return {id(entity) for entity in entities}

    def _destroy_new_entities(self) -> None:
        own = self._own_entities
        groups: tuple[tuple[Iterable[Any], Callable[[Any], object]], ...] = (
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
            (self.clients, self.destroy_client),
            (self.timers, self.destroy_timer),
        )
        for entities, destroy in groups:
            for entity in [e for e in entities if id(e) not in own]:
                destroy(entity)

    # --- shared duties --------------------------------------------------------------------------

    def _on_parameters(self, changes: list[Parameter]) -> Any:
        result, config = check_change(self, self.config_type, changes)
        if config is not None:
            try:
                self.on_config_change(config)
            except VlaRosError as error:
                return SetParametersResult(successful=False, reason=str(error))
            self.config = config
        return result

    def _on_mark(self, mark: RecordingMark) -> None:
        self._publish_counts(mark.mark_id)

    def _publish_counts(self, mark_id: int) -> None:
        message = PublisherCounts(
            node=self.get_fully_qualified_name(), incarnation=self.incarnation, mark_id=mark_id
        )
        message.header.stamp = self.ros_time(time.monotonic_ns())
        with self._publishers_lock:
            publishers = list(self._publishers_counted.values())
        message.topics = [
            TopicCount(
                topic=p.topic, type=p.type_name, published=p.count, subscribers=p.subscribers
            )
            for p in publishers
        ]
        self._counts_pub.publish(message)

    def _publish_health(self) -> None:
        health = self.health() if self._is_set_up else NodeHealth.warn("not configured")
        if self._failures and health.level == DiagnosticStatus.OK:
            health = NodeHealth.warn(f"failed before: {self._last_failure}", health.values)
        status = DiagnosticStatus(
            level=health.level, name=self.get_fully_qualified_name(), message=health.message
        )
        status.hardware_id = self.incarnation
        status.values = [KeyValue(key=k, value=str(v)) for k, v in health.values.items()]
        status.values.append(KeyValue(key="failures", value=str(self._failures)))
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.ros_time(time.monotonic_ns())
        self._diagnostics_pub.publish(array)
        self._publish_counts(0)
