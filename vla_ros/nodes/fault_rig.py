# SPDX-License-Identifier: Apache-2.0
"""Injects faults into a running stack and reads every control tick to see what the arm did."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from vla_ros_msgs.action import ExecuteTask
from vla_ros_msgs.msg import ExecutorStatus
from vla_ros_msgs.srv import ResetScene

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import VlaRosError
from vla_ros.nodes.processes import ProcessGroup
from vla_ros.nodes.stack import Stack, spin_some
from vla_ros.types import ControlMode

AT_REST_M_S = 0.005
_STAYS_S = 0.15
_BRAKING_S = 0.25  # from the fastest reference to rest
_MOVING_M_S = 0.15


class FaultError(VlaRosError):
    """The rig waited for something in vain; the message says for what."""


@dataclass
class Trace:
    """Every control tick since the trace began, as columns."""

    tick_ns: NDArray[np.int64]
    mode: NDArray[np.int64]
    speed_m_s: NDArray[np.float64]
    ref_speed_m_s: NDArray[np.float64]
    tau: NDArray[np.float64]

    def rest_after_ms(self, t0_ns: int) -> float:
        """Return how long after ``t0_ns`` the arm came to rest and stayed so; inf if it did not."""
        fast = np.flatnonzero(self.speed_m_s >= AT_REST_M_S)
        late = fast[self.tick_ns[fast] >= t0_ns]
        if not late.size:
            return 0.0
        # The first gap between two fast ticks that is long enough ends the motion.
        ends = self.tick_ns[late]
        following = np.append(ends[1:], self.tick_ns[-1])
        still = np.flatnonzero(following - ends >= _STAYS_S * NS_PER_S)
        return float(ends[still[0]] - t0_ns) / NS_PER_MS if still.size else float("inf")

    def torque_violations(self, limit_nm: NDArray[np.float64], rate_nm_per_tick: float) -> int:
        """Return how many ticks break the absolute limit or the rate limit."""
        over = (np.abs(self.tau) > limit_nm + 1e-9).any(axis=1)
        consecutive = np.diff(self.tick_ns) < 50 * NS_PER_MS
        jumps = (np.abs(np.diff(self.tau, axis=0)) > rate_nm_per_tick + 1e-9).any(axis=1)
        return int(over.sum() + (jumps & consecutive).sum())


@dataclass
class FaultRig:
    """Drives one stack. ``node`` is spun by the waits of this class."""

    node: Node
    stack: Stack
    group: ProcessGroup
    shm_prefix: str
    _columns: list[dict[str, Any]] = field(default_factory=list)
    _head: int = 0
    _result: Any = None
    _valid_until_ns: int = 0

    def __post_init__(self) -> None:
        self._reader = core.StateReader(self.shm_prefix)
        self._reset: Client[Any, Any] = self.node.create_client(
            ResetScene, "control_node/reset_scene"
        )
        self._resume: Client[Any, Any] = self.node.create_client(Trigger, "control_node/resume")
        self._cancel: Client[Any, Any] = self.node.create_client(Trigger, "task_node/cancel")
        self._task: ActionClient[Any, Any, Any] = ActionClient(
            self.node, ExecuteTask, "execute_task"
        )
        self.executor_status = ExecutorStatus()
        self.node.create_subscription(ExecutorStatus, "executor/status", self._on_executor, 5)
        self._stop_pub = self.node.create_publisher(Empty, "stop", 10)
        for name, is_ready in (
            ("control_node/reset_scene", self._reset.service_is_ready),
            ("execute_task", self._task.server_is_ready),
            ("a listener of stop", lambda: self._stop_pub.get_subscription_count() > 0),
        ):
            self.wait(name, is_ready, 10.0)

    def begin_motion(self, seed: int, instruction: str) -> Any:
        """Reset the scene, send the instruction and wait for motion; return the result's future."""
        if self._result is not None and not self._result.done():
            self._call("the cancellation", self._cancel, Trigger.Request())
            self.pause(0.5)
        response = self._call(
            "the reset", self._reset, ResetScene.Request(seed=seed, goal=instruction)
        )
        if not response.success:
            raise FaultError(response.message)
        self.pause(0.4)
        goal = ExecuteTask.Goal(instruction=instruction, max_duration_s=60.0, wait_for_verdict=True)
        accepted = self._task.send_goal_async(goal)
        self.wait("acceptance of the goal", accepted.done, 10.0)
        handle: Any = accepted.result()
        self._result = result = handle.get_result_async()
        self.wait("motion", lambda: self._is_moving() or result.done(), 15.0)
        if result.done():
            raise FaultError(f"the task ended at once: {result.result().result.reason}")
        self.start_trace()
        return result

    def start_trace(self) -> None:
        """Forget earlier ticks."""
        self._columns, self._head = [], self._reader.head
        self._valid_until_ns = 0

    def trace(self) -> Trace:
        """Return all ticks since ``start_trace``."""
        self._collect()

        def joined(name: str, kind: type) -> NDArray[Any]:
            return np.concatenate([np.asarray(c[name], dtype=kind) for c in self._columns])

        tick_ns = joined("tick_ns", np.int64)
        return Trace(
            tick_ns=tick_ns,
            mode=joined("mode", np.int64),
            speed_m_s=joined("speed_m_s", np.float64),
            ref_speed_m_s=joined("ref_speed_m_s", np.float64),
            tau=joined("tau", np.float64).reshape(len(tick_ns), -1),
        )

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a node and return the time [ns]."""
        now_ns = core.monotonic_ns()
        os.kill(self.group.pid(name), number)
        return now_ns

    def valid_until_ns(self) -> int:
        """Return the latest hard expiry of all segments in force since the trace began [ns]."""
        return self._valid_until_ns

    def stop_once(self) -> dict[str, Any]:
        """Publish a stop and return what it took, by the names of a stop trial."""
        self.start_trace()
        before = self._reader.latest()
        count = before["stop_count"]
        published_ns = core.monotonic_ns()
        self._stop_pub.publish(Empty())
        self.wait("the stop", lambda: self._reader.latest()["stop_count"] > count, 2.0, 0.001)
        record = self._reader.latest()
        self.pause(_BRAKING_S)
        trace = self.trace()
        requested_ns = record["stop_requested_ns"]
        after = trace.tick_ns > requested_ns
        holding = np.flatnonzero(after & (trace.mode == ControlMode.STOPPED))
        if not holding.size:
            raise FaultError(f"after a stop the mode is {ControlMode(record['mode']).name}")
        hold_ns = int(trace.tick_ns[holding[0]])
        resting = holding[trace.ref_speed_m_s[holding] < AT_REST_M_S]
        return {
            "speed_m_s": round(float(np.linalg.norm(before["ref_twist"][:3])), 4),
            "published_ms": (hold_ns - published_ns) / NS_PER_MS,
            "received_ms": (hold_ns - requested_ns) / NS_PER_MS,
            "ticks": int((after[: holding[0] + 1]).sum()),
            "rest_ms": (
                (int(trace.tick_ns[resting[0]]) - hold_ns) / NS_PER_MS
                if resting.size
                else float("inf")
            ),
            # Once it holds nothing else takes over.
            "stopped": bool((trace.mode[holding[0] :] == ControlMode.STOPPED).all()),
        }

    def resume(self) -> None:
        """Let segments be accepted again."""
        self._call("resume", self._resume, Trigger.Request())

    def pause(self, duration_s: float) -> None:
        """Let time pass; ticks are collected, callbacks served, dead nodes left dead."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            spin_some(self.node, 0.02)
            self._collect()

    def wait(
        self, what: str, is_done: Callable[[], bool], limit_s: float, step_s: float = 0.02
    ) -> None:
        """Wait, or raise ``FaultError`` saying for what."""
        deadline = time.monotonic() + limit_s
        while not is_done():
            spin_some(self.node, step_s)
            self._collect()
            if time.monotonic() > deadline:
                raise FaultError(f"waited {limit_s:g} s for {what}, in vain: {self.situation()}")

    def wait_for_outcome(self, result: Any, limit_s: float) -> str:
        """Return the outcome of a task; dead nodes are restarted meanwhile."""
        deadline = time.monotonic() + limit_s
        while not result.done() and time.monotonic() < deadline:
            spin_some(self.node, 0.02)
            self.stack.check()
            self._collect()
        return str(result.result().result.outcome) if result.done() else f"none: {self.situation()}"

    def situation(self) -> str:
        """Say in a few words what the stack is doing."""
        s, record = self.executor_status, self._reader.latest()
        why = f", starved: {s.starved_reason}" if s.starved else ""
        return f"phase {s.phase or '-'}{why}, mode {ControlMode(record['mode']).name.lower()}"

    def _on_executor(self, message: ExecutorStatus) -> None:
        self.executor_status = message

    def _is_moving(self) -> bool:
        record = self._reader.latest()
        return bool(np.linalg.norm(record["ref_twist"][:3]) > _MOVING_M_S)

    def _collect(self) -> None:
        columns = self._reader.since(self._head)
        self._head = columns["head"]
        record = self._reader.latest()
        if record is not None:
            self._valid_until_ns = max(self._valid_until_ns, record["segment_valid_until_ns"])
        if len(columns["tick_ns"]):
            self._columns.append(columns)

    def _call(self, what: str, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        self.wait(what, future.done, 10.0)
        return future.result()
