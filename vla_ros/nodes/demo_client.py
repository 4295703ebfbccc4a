# SPDX-License-Identifier: Apache-2.0
"""The client of a demo: resets the scene, records, sends instructions, waits for outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from vla_ros_msgs.action import ExecuteTask
from vla_ros_msgs.msg import ControlStatus, ExecutorStatus, SlowStatus
from vla_ros_msgs.srv import ResetScene, StartRecording, StopRecording

from vla_ros.errors import VlaRosError
from vla_ros.report.summary import EpisodeResult

_ANSWER_S = 10.0
_SETTLE_S = 0.3
_RECORDER_S = 30.0


class DemoError(VlaRosError):
    """Something did not answer in time; the message says what."""


@dataclass
class LiveStatus:
    """Newest status of each loop."""

    control: ControlStatus | None = None
    executor: ExecutorStatus | None = None
    slow: SlowStatus | None = None


class DemoClient:
    """Runs episodes one after the other.

    Args:
        node: client node, spun by the calls below.
        check: called often; raises when the stack is beyond repair.
        progress: told (phase, elapsed_s, latent_age_ms) while an episode runs.
    """

    def __init__(
        self,
        node: Node,
        check: Callable[[], None],
        progress: Callable[[str, float, float], None],
        record: bool,
    ) -> None:
        self._node, self._check, self._progress = node, check, progress
        self.status = LiveStatus()
        self._reset: Client[Any, Any] = node.create_client(ResetScene, "control_node/reset_scene")
        self._task: ActionClient[Any, Any, Any] = ActionClient(node, ExecuteTask, "execute_task")
        self._record_start: Client[Any, Any] = node.create_client(
            StartRecording, "recorder_node/start"
        )
        self._record_stop: Client[Any, Any] = node.create_client(
            StopRecording, "recorder_node/stop"
        )
        self._record = record
        node.create_subscription(ControlStatus, "control/status", self._on_control, 5)
        node.create_subscription(ExecutorStatus, "executor/status", self._on_executor, 5)
        node.create_subscription(SlowStatus, "slow/status", self._on_slow, 5)

    def wait_until_ready(self) -> None:
        """Wait until everything an episode needs answers.

        Raises:
            DemoError: naming what does not.
        """
        self._wait("control/status", lambda: self.status.control is not None, _ANSWER_S)
        self._wait("control_node/reset_scene", self._reset.service_is_ready, _ANSWER_S)
        self._wait("execute_task", self._task.server_is_ready, _ANSWER_S)
        if self._record:
            self._wait("recorder_node/start", self._record_start.service_is_ready, _ANSWER_S)

    @property
    def priority(self) -> str:
        """Scheduling that the control thread obtained."""
        return self.status.control.priority if self.status.control else "unknown"

    def run_episode(
        self,
        number: int,
        seed: int,
        instruction: str,
        folder: Path,
        max_duration_s: float,
        goal: str | None = None,
    ) -> EpisodeResult:
        """Run one episode and return how it ended, as the judge saw it.

        Raises:
            DemoError: if something does not answer.
        """
        self._reset_scene(seed, goal or instruction)
        if self._record:
            request = StartRecording.Request(
                episode_id=number, instruction=instruction, directory=str(folder)
            )
            self._require(
                self._call("start of the recording", self._record_start, request, _RECORDER_S)
            )
        result = self._execute(instruction, max_duration_s)
        success = result.outcome == "verified"
        if self._record:
            stop = StopRecording.Request(
                outcome="success" if success else "failure", note=result.reason
            )
            self._require(self._call("end of the recording", self._record_stop, stop, _RECORDER_S))
        return EpisodeResult(
            episode_id=number,
            instruction=instruction,
            success=success,
            elapsed_s=result.elapsed_s,
            seed=seed,
            outcome=result.outcome,
            reason=result.reason,
        )

    def spin(self, duration_s: float) -> None:
        """Serve callbacks for a while."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            rclpy.spin_once(self._node, timeout_sec=0.05)

    def _reset_scene(self, seed: int, goal: str) -> None:
        response = self._call(
            "reset of the scene", self._reset, ResetScene.Request(seed=seed, goal=goal)
        )
        self._require(response)
        self._wait(
            "the new scene",
            lambda: (
                self.status.control is not None
                and self.status.control.scene_epoch >= response.scene_epoch
            ),
            _ANSWER_S,
        )
        self.spin(_SETTLE_S)

    def _execute(self, instruction: str, max_duration_s: float) -> Any:
        goal = ExecuteTask.Goal(
            instruction=instruction, max_duration_s=max_duration_s, wait_for_verdict=True
        )
        accepted = self._task.send_goal_async(goal, feedback_callback=self._on_feedback)
        self._wait("acceptance of the goal", accepted.done, _ANSWER_S)
        handle = accepted.result()
        assert handle is not None
        result = handle.get_result_async()
        self._wait("the outcome of the task", result.done, max_duration_s + _ANSWER_S)
        response = result.result()
        assert response is not None
        return response.result

    def _call(self, what: str, client: Any, request: Any, limit_s: float = _ANSWER_S) -> Any:
        future = client.call_async(request)
        self._wait(what, future.done, limit_s)
        return future.result()

    @staticmethod
    def _require(response: Any) -> None:
        if not response.success:
            raise DemoError(response.message)

    def _wait(self, what: str, is_done: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not is_done():
            rclpy.spin_once(self._node, timeout_sec=0.05)
            self._check()
            if time.monotonic() > deadline:
                raise DemoError(f"waited {limit_s:g} s for {what}, in vain")

    def _on_feedback(self, message: Any) -> None:
        feedback = message.feedback
        age = feedback.latent_age_ms
        self._progress(feedback.phase, feedback.elapsed_s, 0.0 if math.isnan(age) else age)

    def _on_control(self, message: ControlStatus) -> None:
        self.status.control = message

    def _on_executor(self, message: ExecutorStatus) -> None:
        self.status.executor = message

    def _on_slow(self, message: SlowStatus) -> None:
        self.status.slow = message
