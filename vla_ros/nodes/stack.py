# SPDX-License-Identifier: Apache-2.0
"""A running stack: processes and their lifecycle, driven from one client node."""

from __future__ import annotations

import time

import rclpy
from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.lifecycle import LifecycleDriver
from vla_ros.nodes.process import set_process_nice, stand_back_behind_control
from vla_ros.nodes.processes import ProcessGroup

_CLIENT_NICE = 10
_LIMIT_S = 30.0


class BringupError(VlaRosError):
    """The stack could not be started; the message names the node and what it was waited for."""


class Stack:
    """Starts, watches and restarts the nodes of a run.

    Every wait has a limit and ends early when the process it waits for has died.
    """

    def __init__(self, group: ProcessGroup, node: Node) -> None:
        self._group = group
        self._node = node
        self._driver = LifecycleDriver(node)
        self.faults: list[tuple[float, str, str]] = []
        self._started_s = time.monotonic()

    def start(self) -> None:
        """Start all processes, then take all nodes through configure and activate.

        Raises:
            BringupError: naming the node, the step and its last log line.
        """
        # Before the nodes start: they inherit it, and importing is what they do first.
        stand_back_behind_control()
        self._group.start()
        # This process waits and prints: it must not take the processor from the control thread.
        set_process_nice(_CLIENT_NICE)
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
            self._driver.add(name)
        deadline = time.monotonic() + _LIMIT_S
        while not self._driver.is_active(names):
            rclpy.spin_once(self._node, timeout_sec=0.02)
            self._driver.tick(time.monotonic_ns())
            waiting = self._driver.waiting()
            for name, what in self._driver.problems().items():
                raise BringupError(f"{name} could not {what}: {self._group.last_log_line(name)}")
            for name in {spec.name for spec in self._group.dead()} & set(names):
                what = waiting.get(name, "run")
                raise BringupError(
                    f"{name} ended while it should {what}: {self._group.exit_text(name)}"
                )
            if waiting and time.monotonic() > deadline:
                name, what = next(iter(waiting.items()))
                raise BringupError(
                    f"{name} did not {what} within {_LIMIT_S:g} s: "
                    f"{self._group.last_log_line(name)}"
                )


def spin_some(node: Node, duration_s: float) -> None:
    """Serve what has arrived, or wait for it for at most ``duration_s``."""
    rclpy.spin_once(node, timeout_sec=duration_s)
