# SPDX-License-Identifier: Apache-2.0
"""What the ROS graph says about topics: which exist, of which type, with which service quality."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from vla_ros.clock import NS_PER_S
from vla_ros.errors import RecordingError

# Raw images and depth cost the recorder more than everything else together; their compressed topics
# are recorded instead.
SKIPPED_TYPES = frozenset({"sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"})
SKIPPED_TOPICS = frozenset({"/parameter_events"})


@dataclass(frozen=True, kw_only=True)
class FoundTopic:
    """A topic that somebody publishes.

    Attributes:
        publishers: (identity, fully qualified node name) of each publisher.
        offered: their quality of service, as a bag stores it.
    """

    name: str
    msgtype: str
    publishers: tuple[tuple[bytes, str], ...]
    offered: tuple[Qos, ...]
    is_latched: bool
    is_reliable: bool


def find_topics(node: Node) -> list[FoundTopic]:
    """Return every topic worth recording that has a publisher now."""
    found = []
    for name, types in node.get_topic_names_and_types():
        if len(types) != 1 or not is_wanted(name, types[0]):
            continue
        endpoints = node.get_publishers_info_by_topic(name)
        if endpoints:
            found.append(_describe(name, types[0], endpoints))
    return found


def is_wanted(name: str, msgtype: str) -> bool:
    """Return whether a topic is recorded: not hidden, not raw images, not parameter chatter."""
    if name in SKIPPED_TOPICS or msgtype in SKIPPED_TYPES:
        return False
    return "/msg/" in msgtype and not any(part.startswith("_") for part in name.split("/"))


def matching_qos(topic: FoundTopic, depth: int) -> QoSProfile:
    """Return a request that every publisher of the topic satisfies, with a deep history."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=(
            ReliabilityPolicy.RELIABLE if topic.is_reliable else ReliabilityPolicy.BEST_EFFORT
        ),
        durability=(
            DurabilityPolicy.TRANSIENT_LOCAL if topic.is_latched else DurabilityPolicy.VOLATILE
        ),
    )


def message_class(msgtype: str) -> type[Any]:
    """Import the Python class of a message type such as ``std_msgs/msg/String``.

    Raises:
        RecordingError: if its package is not installed.
    """
    package, _, name = msgtype.partition("/msg/")
    try:
        found = getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise RecordingError(f"message type {msgtype} is not installed: {error}") from error
    assert isinstance(found, type)
    return found


def full_node_name(endpoint: TopicEndpointInfo) -> str:
    """Return the fully qualified name of the node behind an endpoint."""
    namespace = endpoint.node_namespace.rstrip("/")
    return f"{namespace}/{endpoint.node_name}"


def to_bag_qos(profile: QoSProfile) -> Qos:
    """Return a quality of service as the bag writer stores it; the numbers are those of rmw."""
    return Qos(
        history=QosHistory(int(profile.history)),
        depth=int(profile.depth),
        reliability=QosReliability(int(profile.reliability)),
        durability=QosDurability(int(profile.durability)),
        deadline=_to_bag_time(profile.deadline.nanoseconds),
        lifespan=_to_bag_time(profile.lifespan.nanoseconds),
        liveliness=QosLiveliness(
            int(profile.liveliness) if profile.liveliness else LivelinessPolicy.AUTOMATIC
        ),
        liveliness_lease_duration=_to_bag_time(profile.liveliness_lease_duration.nanoseconds),
        avoid_ros_namespace_conventions=bool(profile.avoid_ros_namespace_conventions),
    )


def _describe(name: str, msgtype: str, endpoints: Sequence[TopicEndpointInfo]) -> FoundTopic:
    profiles = [e.qos_profile for e in endpoints]
    return FoundTopic(
        name=name,
        msgtype=msgtype,
        publishers=tuple((bytes(e.endpoint_gid), full_node_name(e)) for e in endpoints),
        offered=tuple(to_bag_qos(p) for p in profiles),
        is_latched=all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
        is_reliable=all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
    )


def _to_bag_time(duration_ns: int) -> QosTime:
    return QosTime(*divmod(duration_ns, NS_PER_S))
