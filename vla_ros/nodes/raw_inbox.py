# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of many topics, taken in batches.

An executor wakes, rebuilds its wait set and makes a task for every single message; with forty
topics and a thousand messages a second that costs a quarter of a processor. Here the middleware
keeps the messages in the history of the subscription; they are taken together when it suits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile

from vla_ros.recording.session import Received

_NO_NUMBER = (None, 0, 2**64 - 1)  # the last one is rmw's "not supported"
_PER_TOPIC = 2000


class _Unattended(CallbackGroup):
    """A group whose members no executor ever waits for."""

    def can_execute(self, entity: Any) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was begun."""


class RawInbox:
    """Subscriptions of one node that ``collect`` empties. Thread-safety: one thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = _Unattended()
        self._sources: list[tuple[Any, Callable[[Received], None]]] = []

    def subscribe(
        self, kind: type[Any], topic: str, qos: QoSProfile, receive: Callable[[Received], None]
    ) -> None:
        """Let ``collect`` pass every message of a topic to ``receive``."""
        subscription = self._node.create_subscription(
            kind, topic, lambda _: None, qos, raw=True, callback_group=self._group
        )
        self._sources.append((subscription, receive))

    def is_matched(self) -> bool:
        """Say whether every publisher that the graph shows also reaches its subscription."""
        return all(
            subscription.get_publisher_count()
            >= self._node.count_publishers(subscription.topic_name)
            for subscription, _ in self._sources
        )

    def collect(self) -> int:
        """Take everything that has arrived and return how many messages that was."""
        count = 0
        for subscription, receive in self._sources:
            try:
                with subscription.handle:
                    count += _empty(subscription, receive)
            except InvalidHandle:
                continue  # the node is being destroyed
        return count


def _empty(subscription: Any, receive: Callable[[Received], None]) -> int:
    topic, kind, handle = subscription.topic_name, subscription.msg_type, subscription.handle
    for count in range(_PER_TOPIC):
        taken = handle.take_message(kind, True)
        if taken is None:
            return count
        data, info = taken
        gid, number = info["publisher_gid"], info["publication_sequence_number"]
        receive(
            Received(
                topic,
                gid["data"] if gid else b"",
                None if number in _NO_NUMBER else number,
                info["received_timestamp"] or time.time_ns(),
                data,
            )
        )
    return _PER_TOPIC
