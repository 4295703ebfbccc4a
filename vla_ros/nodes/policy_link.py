# SPDX-License-Identifier: Apache-2.0
"""The way to a policy server by a ROS 2 service; to its user the same as a socket.

Who asks may be a callback of a node, which must not wait for its own executor: questions go out and
answers come in by a context, node and executor thread of their own, one of each per domain and
process. A link is open to one incarnation of a server, and no other one's answer is taken.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import time
import weakref
from collections import deque
from typing import Any

from rclpy.client import Client
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from vla_ros_msgs.msg import PolicyServer
from vla_ros_msgs.srv import AskPolicy

from vla_ros.errors import PolicyError
from vla_ros.nodes.policy_service import SERVER_QOS, host_of_process_ids, server_topic, to_bytes
from vla_ros.policies.remote.link import check_length
from vla_ros.policies.remote.service_address import ServiceAddress

_DISCOVERY_S = 5.0  # after this process has come up; later, servers are found in the background
_MEET_S = 0.3
_KNOCK_S = 0.1
_LOOK_S = 0.05  # how late a server of another host is noticed to be silent


class _Server:
    """One incarnation of a server. One of this host is known to be dead as soon as it is."""

    def __init__(self, said: PolicyServer) -> None:
        self.number = int(said.server)
        self.process: int | None = None  # readable once the process has ended
        self.is_dead = False
        if said.host == host_of_process_ids():
            try:
                self.process = os.pidfd_open(said.pid)
            except ProcessLookupError:
                self.is_dead = True
            except OSError:
                return  # its silence will tell
            else:
                weakref.finalize(self, os.close, self.process)

    def has_ended(self) -> bool:
        """Say whether its process is known to have ended."""
        if self.process is not None and not self.is_dead:
            self.is_dead = bool(select.select([self.process], [], [], 0.0)[0])
        return self.is_dead


class _Service:
    """A service that all links of this process share. Thread-safety: any."""

    def __init__(self, node: Node, name: str) -> None:
        self.client: Client[Any, Any] = node.create_client(AskPolicy, name)
        self._newest: _Server | None = None
        self._alive = 0
        self._subscription = node.create_subscription(
            PolicyServer,
            server_topic(name),
            self._on_server,
            SERVER_QOS,
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )

    @property
    def server(self) -> _Server | None:
        """Who serves it now; None if nobody does, as far as is known."""
        newest = self._newest
        if newest is None or self._alive == 0 or newest.has_ended():
            return None
        return newest

    def _on_server(self, said: PolicyServer) -> None:
        self._newest = _Server(said)

    def _on_liveliness(self, event: Any) -> None:
        self._alive = event.alive_count


class _Peer:
    """This process in one domain: a context, a node, and a thread that serves it."""

    def __init__(self, domain: int) -> None:
        self._context = Context()
        self._context.init(args=[], domain_id=domain)
        self._node = Node(
            f"policy_client_{os.getpid()}",
            context=self._context,
            use_global_arguments=False,
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._services: dict[str, _Service] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self.discovered_by_s = time.monotonic() + _DISCOVERY_S
        self._thread = threading.Thread(target=self._spin, name="policy_link", daemon=True)
        self._thread.start()
        # A thread inside the middleware would crash an interpreter that ends.
        atexit.register(self.close)

    def service(self, name: str) -> _Service:
        with self._lock:
            if name not in self._services:
                self._services[name] = _Service(self._node, name)
            return self._services[name]

    def _spin(self) -> None:
        while not self._is_over:
            try:
                self._executor.spin_once()
            except ExternalShutdownException:
                return
            except Exception as error:  # bytes that are no answer must not end all others
                self._node.get_logger().error(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Leave the domain, once."""
        self._is_over = True
        self._executor.create_task(lambda: None)  # something to wake up for
        self._thread.join(timeout=5.0)
        self._executor.shutdown(timeout_sec=0.0)
        self._node.destroy_node()
        self._context.try_shutdown()


_peers: dict[int, _Peer] = {}
_peers_lock = threading.Lock()


def _peer_of(domain: int) -> _Peer:
    with _peers_lock:
        if domain not in _peers:
            _peers[domain] = _Peer(domain)
        return _peers[domain]


def close_peers() -> None:
    """Leave all domains; links that are open fail from now on, new ones begin anew."""
    with _peers_lock:
        while _peers:
            _, peer = _peers.popitem()
            atexit.unregister(peer.close)
            peer.close()


class ServiceLink:
    """A ``Link`` by a service, one question at a time."""

    def __init__(self, address: ServiceAddress) -> None:
        self._address = address
        self._service: _Service | None = None
        self._server: _Server | None = None  # whom it is open to
        self._future: Future[Any] | None = None
        self._answers: deque[Any] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._bell)

    @property
    def is_open(self) -> bool:
        """Whether the server that was met is still the one that serves."""
        return self._is_served_by(self._server)

    def send(self, data: bytes) -> None:
        """Send a question; meets the server first if need be."""
        check_length(len(data))
        if self._server is None:
            self._server = self._meet()
        if not self.is_open:
            self.close()
            raise PolicyError("the other side is gone: its server has ended or is silent")
        self._ask(self._server.number, data)

    def receive(self, wait_s: float) -> bytearray | None:
        """Return the answer; that of a server that ended afterwards counts."""
        deadline_s = time.monotonic() + wait_s
        while True:
            is_open = self.is_open
            if self._answers:
                return self._taken(self._answers.popleft())
            if not is_open:
                self.close()
                raise PolicyError("the other side is gone: its server has ended or is silent")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0.0:
                return None
            self._listen(min(left_s, _LOOK_S))

    def close(self) -> None:
        """Expect no answer and no server any more."""
        if self._future is not None and self._service is not None:
            self._service.client.remove_pending_request(self._future)
        self._server, self._future = None, None
        self._answers.clear()

    def _is_served_by(self, server: _Server | None) -> bool:
        return server is not None and self._service is not None and self._service.server is server

    def _meet(self) -> _Server:
        """Return a server that hears and is heard, which DDS does not say by itself."""
        peer = _peer_of(self._address.domain)
        if self._service is None:
            self._service = peer.service(self._address.name)
        limit_s = max(time.monotonic() + _MEET_S, peer.discovered_by_s)
        while time.monotonic() < limit_s:
            server = self._service.server
            if server is None:
                if time.monotonic() > peer.discovered_by_s:
                    break
                self._listen(_LOOK_S)
                continue
            if self._service.client.service_is_ready():
                self._ask(server.number, b"")
            self._listen(_KNOCK_S)
            if self._answers and self._answers.popleft().server == server.number:
                return server
        self.close()
        raise PolicyError(f"no policy server at {self._address}")

    def _ask(self, number: int, data: bytes) -> None:
        assert self._service is not None
        if self._future is not None:
            self._service.client.remove_pending_request(self._future)
        self._answers.clear()
        question = AskPolicy.Request(server=number, data=to_bytes(data))
        future = self._service.client.call_async(question)
        self._future = future
        future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Future[Any]) -> None:
        """Keep an answer (executor thread); one that nobody waits for is dropped."""
        if future is self._future:
            self._answers.append(future.result())
            os.eventfd_write(self._bell, 1)

    def _taken(self, answer: AskPolicy.Response) -> bytearray:
        self._future = None
        if self._server is None or answer.server != self._server.number or not len(answer.data):
            self.close()
            raise PolicyError("another server has answered")
        try:
            check_length(len(answer.data))
        except PolicyError:
            self.close()
            raise
        return bytearray(memoryview(answer.data))

    def _listen(self, wait_s: float) -> None:
        """Wait for the bell, or for the server's process to end."""
        ends = [self._bell]
        if self._server is not None and self._server.process is not None:
            ends.append(self._server.process)
        select.select(ends, [], [], wait_s)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
