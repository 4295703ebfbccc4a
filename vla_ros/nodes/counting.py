# SPDX-License-Identifier: Apache-2.0
"""Publishers that know how many messages they have sent."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.publisher import Publisher


class CountingPublisher:
    """A publisher whose count equals the sequence number DDS gives its last message.

    Thread-safety: any thread may publish.
    """

    def __init__(self, publisher: Publisher[Any], type_name: str) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._count = 0
        self.type_name = type_name

    @property
    def topic(self) -> str:
        """Fully qualified topic name."""
        return self._publisher.topic_name

    @property
    def count(self) -> int:
        """Messages published so far."""
        with self._lock:
            return self._count

    @property
    def subscribers(self) -> int:
        """Subscriptions that this publisher knows of and sends to."""
        return self._publisher.get_subscription_count()

    @property
    def has_subscribers(self) -> bool:
        """True while somebody listens; lets costly messages be made on demand."""
        return self.subscribers > 0

    def publish(self, message: Any) -> None:
        """Publish and count; a message that could not be published is not counted."""
        with self._lock:
            self._publisher.publish(message)
            self._count += 1
