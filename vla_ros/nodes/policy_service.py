# SPDX-License-Identifier: Apache-2.0
"""A policy as a ROS 2 service: the same questions and answers as by a socket.

Beside the service ``/policy`` there is the topic ``/policy/server``, which says who serves it: DDS
goes on listing a killed server for half a minute, and a client must neither wait for that one nor
take its successor for it.
"""

from __future__ import annotations

import array
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from vla_ros_msgs.msg import PolicyServer as PolicyServerMsg
from vla_ros_msgs.srv import AskPolicy

from vla_ros.errors import VlaRosError
from vla_ros.policies.remote.link import check_length
from vla_ros.policies.remote.messages import Message
from vla_ros.policies.remote.server import PolicyServer
from vla_ros.policies.remote.service_address import ServiceAddress

SILENT_S = 1.0  # a server whose process gives no sign of life for so long is gone
SERVER_QOS = QoSProfile(
    depth=1,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    reliability=ReliabilityPolicy.RELIABLE,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=SILENT_S),
)
_THREADS = 8  # more than a policy has parts: questions to one wait for each other
_LOOK_S = 0.1


def server_topic(service: str) -> str:
    """Return the topic that says who serves a policy."""
    return f"{service}/server"


def host_of_process_ids() -> str:
    """Return what two processes have in common that see each other by their process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def to_bytes(data: bytes | bytearray) -> array.array[int]:
    """Return bytes as rclpy takes them without looking at each."""
    return array.array("B", data)


class PolicyService:
    """Answers a service for a policy.

    Args:
        node: what the service belongs to; its executor must have several threads, or a slow half
            keeps its fast one waiting.
        name: of the service.
        server: who answers.
    """

    def __init__(self, node: Node, name: str, server: PolicyServer) -> None:
        self._server = server
        self._number = secrets.randbelow(2**64 - 1) + 1
        group = ReentrantCallbackGroup()
        node.create_service(AskPolicy, name, self._answer, callback_group=group)
        self._publisher = node.create_publisher(PolicyServerMsg, server_topic(name), SERVER_QOS)
        said = PolicyServerMsg(server=self._number, host=host_of_process_ids(), pid=os.getpid())
        self._publisher.publish(said)

    def _answer(self, request: AskPolicy.Request, answer: AskPolicy.Response) -> AskPolicy.Response:
        answer.server = self._number
        if request.server == self._number and len(request.data):
            answer.data = to_bytes(self._reply(memoryview(request.data)))
        return answer

    def _reply(self, data: memoryview) -> bytes:
        try:
            check_length(len(data))
            return self._server.reply(data)
        except VlaRosError as error:
            values = {"error": "PolicyError", "text": str(error), "number": 0}
            return Message("error", values).to_bytes()


def serve_by_service(
    server: PolicyServer,
    address: ServiceAddress,
    is_over: Callable[[], bool],
    is_ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer until ``is_over``; calls ``is_ready`` once questions can come."""
    context = Context()
    context.init(args=[], domain_id=address.domain)
    executor = MultiThreadedExecutor(_THREADS, context=context)
    node = Node(
        "policy_server", context=context, use_global_arguments=False, start_parameter_services=False
    )
    try:
        service = PolicyService(node, address.name, server)
        executor.add_node(node)
        is_ready()
        while not is_over():
            try:
                executor.spin_once(timeout_sec=_LOOK_S)
            except ExternalShutdownException:
                return
            except Exception as error:  # a client that left, bytes that are no request
                node.get_logger().error(f"{type(error).__name__}: {error}")
        del service
    finally:
        executor.shutdown(timeout_sec=_LOOK_S, wait_for_threads=False)
        node.destroy_node()
        context.try_shutdown()
