# SPDX-License-Identifier: Apache-2.0
"""Hands payloads over by ROS topic: what the latent ring is compared with. See bench/peers.py."""

from __future__ import annotations

import array
import time
from collections.abc import Callable

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from vla_ros_msgs.msg import NamedTensor

from vla_ros.bench.peers import Handover, Log, fill, pause, peer_main
from vla_ros.errors import VlaRosError

_NEWEST = QoSProfile(depth=1)
# Kept for who is matched late: the first answer may leave before its way is known to both sides.
_ANSWERS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_LIMIT_S = 10.0


def send(series: Handover, options: tuple[str, ...]) -> None:
    """Publish one payload after the other, each when the one before has arrived."""
    rclpy.init(args=[])
    node = rclpy.create_node("handover_sender", enable_rosout=False)
    arrived = [0]
    publisher = node.create_publisher(NamedTensor, series.channel, _NEWEST)
    node.create_subscription(
        NamedTensor,
        f"{series.channel}_answer",
        lambda m: arrived.append(int(m.name)),
        _ANSWERS,
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    data = array.array("B", bytes(series.bytes))
    message = NamedTensor(dtype="uint8", shape=[series.bytes], data=data)
    payload = np.frombuffer(message.data, dtype=np.uint8)
    _wait(executor, lambda: publisher.get_subscription_count() > 0)
    _wait(executor, lambda: node.count_publishers(f"{series.channel}_answer") > 0)
    for number in range(1, series.total + 1):
        fill(payload, number)
        message.name = f"{number} {time.monotonic_ns()}"
        publisher.publish(message)
        _wait(executor, lambda: arrived[-1] >= number)  # noqa: B023 - used at once
        pause(series.gap_s)
    _wait(executor, lambda: publisher.get_subscription_count() == 0)
    rclpy.try_shutdown()


def receive(series: Handover, options: tuple[str, ...], ready: Callable[[], None]) -> Log:
    """Take every payload in a callback."""
    rclpy.init(args=[])
    node = rclpy.create_node("handover_receiver", enable_rosout=False)
    log = Log()
    answers = node.create_publisher(NamedTensor, f"{series.channel}_answer", _ANSWERS)

    def on_message(message: NamedTensor) -> None:
        payload = np.frombuffer(message.data, dtype=np.uint8)
        held_ns = time.monotonic_ns()
        number, sent_ns = (int(word) for word in message.name.split())
        log.note(sent_ns, held_ns, payload, number)
        answers.publish(NamedTensor(name=str(number)))

    node.create_subscription(NamedTensor, series.channel, on_message, _NEWEST)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ready()
    while len(log.durations_ns) < series.total:
        executor.spin_once(timeout_sec=0.1)
    # Long enough for the last answer to leave.
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    node.destroy_node()
    rclpy.try_shutdown()
    return log


def _wait(executor: SingleThreadedExecutor, is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not is_done():
        executor.spin_once(timeout_sec=0.1)
        if time.monotonic() > deadline:
            raise VlaRosError(f"nothing arrived within {_LIMIT_S:g} s")


if __name__ == "__main__":
    peer_main(send, receive)
