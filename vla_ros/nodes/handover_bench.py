# SPDX-License-Identifier: Apache-2.0
"""Hands a payload over by ROS topic: what the latent ring is compared with."""

from __future__ import annotations

import array
import time
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from vla_ros_msgs.msg import NamedTensor

from vla_ros.errors import VlaRosError

_LIMIT_S = 5.0


class TopicHandover:
    """Publishes a payload and waits until it has been received.

    Raises:
        VlaRosError: if it does not arrive within five seconds.
    """

    def __init__(self, payload: NDArray[np.uint8]) -> None:
        self._message = NamedTensor(name="latent", dtype="uint8", shape=[len(payload)])
        values = array.array("B")
        values.frombytes(payload.tobytes())
        self._message.data = values
        self._received = 0

    def __enter__(self) -> TopicHandover:
        rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self._node = rclpy.create_node("handover_bench", enable_rosout=False)
        self._publisher = self._node.create_publisher(NamedTensor, "handover", 10)
        self._node.create_subscription(NamedTensor, "handover", self._on_message, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._wait(lambda: self._publisher.get_subscription_count() > 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._node.destroy_node()
        rclpy.try_shutdown()

    def once(self) -> None:
        """Hand the payload over once."""
        expected = self._received + 1
        self._publisher.publish(self._message)
        self._wait(lambda: self._received >= expected)

    def _wait(self, is_done: Any) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not is_done():
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > deadline:
                raise VlaRosError(f"the message did not arrive within {_LIMIT_S:g} s")

    def _on_message(self, _: NamedTensor) -> None:
        self._received += 1
