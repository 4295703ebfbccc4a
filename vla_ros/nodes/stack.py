# SPDX-License-Identifier: Apache-2.0
"""A running stack: processes and their lifecycle, driven from one client node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.processes import ProcessGroup

_APPEAR_S = 30.0
_TRANSITION_S = 30.0
_STEPS = (
    (Transition.TRANSITION_CONFIGURE, "configure"),
    (Transition.TRANSITION_ACTIVATE, "activate"),
)


class BringupError(VlaRosError):
    """The stack could not be started; the message names the node and what it was waited for."""


class Stack:
    """Starts, watches and restarts the nodes of a run.

    Every wait has a limit and ends early when the process it waits for has died.
    """

    def __init__(self, group: ProcessGroup, node: Node) -> None:
        self._group = group
        self._node = node
        self._clients = {
            spec.name: node.create_client(ChangeState, f"{spec.name}/change_state")
            for spec in group.specs
        }
        self.faults: list[tuple[float, str, str]] = []
        self._started_s = time.monotonic()

    def start(self) -> None:
        """Start all processes, then take all nodes through configure and activate.

        Raises:
            BringupError: naming the node, the step and its last log line.
        """
        self._group.start()
        self._bring_up([spec.name for spec in self._group.specs])

    def check(self) -> None:
        """Restart what died and may be restarted.

        Raises:
            BringupError: if a node died that must not be restarted.
        """
        dead = self._group.dead()
        for spec in dead:
            text = self._group.exit_text(spec.name)
            self.faults.append((time.monotonic() - self._started_s, f"{spec.name} died", text))
            if not spec.respawn:
                raise BringupError(f"{spec.name} died: {text}")
            self._group.respawn(spec)
        if dead:
            self._bring_up([spec.name for spec in dead])

    def stop(self) -> None:
        """End all processes."""
        self._group.stop()

    def _bring_up(self, names: list[str]) -> None:
        for name in names:
            client = self._clients[name]
            self._wait(name, "appear", client.service_is_ready, _APPEAR_S)
        for transition, word in _STEPS:
            request = ChangeState.Request(transition=Transition(id=transition))
            futures = {name: self._clients[name].call_async(request) for name in names}
            for name, future in futures.items():
                self._wait(name, word, future.done, _TRANSITION_S)
                if not self._succeeded(future):
                    raise BringupError(
                        f"{name} could not {word}: {self._group.last_log_line(name)}"
                    )

    @staticmethod
    def _succeeded(future: Any) -> bool:
        response = future.result()
        return response is not None and bool(response.success)

    def _wait(self, name: str, what: str, is_done: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not is_done():
            rclpy.spin_once(self._node, timeout_sec=0.05)
            if name in [spec.name for spec in self._group.dead()]:
                raise BringupError(f"{name} ended while it should {what}: "
                                   f"{self._group.exit_text(name)}")
            if time.monotonic() > deadline:
                raise BringupError(
                    f"{name} did not {what} within {limit_s:g} s: "
                    f"{self._group.last_log_line(name)}"
                )


