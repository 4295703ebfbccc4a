# SPDX-License-Identifier: Apache-2.0
"""The whole stack as real processes in a ROS domain of its own, with a client to drive it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.action import ActionClient
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from vla_ros_msgs.action import ExecuteTask
from vla_ros_msgs.msg import ControlStatus, ExecutorStatus, SlowStatus, TaskState
from vla_ros_msgs.srv import ResetScene

from vla_ros.bringup import BringupConfig, nodes_for
from vla_ros.nodes.base import LATCHED
from vla_ros.nodes.processes import (
    ProcessGroup,
    remove_shared_memory,
    run_environment,
    take_domain,
)
from vla_ros.nodes.stack import Stack
from vla_ros.sim.prepare import prepare_scene
from vla_ros.types import ControlMode

HOME_M = (0.307, 0.0, 0.487)  # where every reset puts the end effector
MOVING_M_S = 0.05
REST_M_S = 0.01
TOPICS = (
    ("control/status", ControlStatus, 5),
    ("executor/status", ExecutorStatus, 5),
    ("slow/status", SlowStatus, 5),
    ("current_pose", PoseStamped, 5),
    ("current_twist", TwistStamped, 5),
    ("task/state", TaskState, LATCHED),
)


class Task:
    """A goal under way: its acceptance, then its result."""

    def __init__(self, cell: LiveCell, future: Any) -> None:
        self._cell = cell
        cell.wait("an answer to the goal", future.done, 5)
        self.handle = future.result()
        self._result = self.handle.get_result_async()

    def is_over(self) -> bool:
        return bool(self._result.done())

    def result(self, limit_s: float = 40.0) -> Any:
        self._cell.wait("the outcome of the task", self._result.done, limit_s)
        return self._result.result().result


class LiveCell:
    """Starts everything but recorder and viewer; ``close`` ends it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        domain, self._lock = take_domain()
        # The classical policy unless asked otherwise: it always finishes, and needs no weights.
        settings = {"policy": "classical", "record": False, "viewer": False} | settings
        self.config = BringupConfig(shm_prefix=f"vla_ros.d{domain}.test", **settings)
        os.environ.update(run_environment(domain))
        remove_shared_memory(self.config.shm_prefix)
        rclpy.init(domain_id=domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node: Node = rclpy.create_node("test_client")
        specs = nodes_for(self.config, prepare_scene(folder / "scene"))
        self.group = ProcessGroup(specs, {}, folder / "logs")
        self.stack = Stack(self.group, self.node)
        self.seen: dict[str, Any] = {}
        for topic, kind, qos in TOPICS:
            self.node.create_subscription(kind, topic, self._keep(topic), qos)
        self._stop_pub = self.node.create_publisher(Empty, "stop", 10)
        self._task = ActionClient(self.node, ExecuteTask, "execute_task")
        self._reset = self.node.create_client(ResetScene, "control_node/reset_scene")
        self._resume = self.node.create_client(Trigger, "control_node/resume")
        self.cancel_client = self.node.create_client(Trigger, "task_node/cancel")
        began = time.monotonic()
        try:
            self.stack.start()
        except BaseException:
            self.close()
            raise
        self.start_s = time.monotonic() - began
        self.wait("the first state", lambda: set(self.seen) >= {t for t, _, _ in TOPICS}, 10)

    def close(self) -> None:
        self.stack.stop()
        self.node.destroy_node()
        rclpy.try_shutdown()
        remove_shared_memory(self.config.shm_prefix)
        self._lock.close()

    # --- what to do -----------------------------------------------------------------------------

    def reset(self, seed: int, goal: str) -> None:
        response = self.call(self._reset, ResetScene.Request(seed=seed, goal=goal))
        assert response.success, response.message
        self.wait("the new scene", lambda: self.status.scene_epoch >= response.scene_epoch, 5)
        self.wait("rest after the reset", self.is_at_rest, 5)
        # The pose has a topic of its own, which may come after that of the status.
        self.wait("the pose at home", lambda: np.allclose(self.position, HOME_M, atol=0.02), 5)

    def send(self, instruction: str, max_duration_s: float = 30.0) -> Task:
        assert self._task.wait_for_server(5)
        goal = ExecuteTask.Goal(
            instruction=instruction, max_duration_s=max_duration_s, wait_for_verdict=True
        )
        return Task(self, self._task.send_goal_async(goal))

    def stop(self) -> None:
        self._stop_pub.publish(Empty())

    def resume(self) -> None:
        assert self.call(self._resume, Trigger.Request()).success
        self.wait("the end of the stop", lambda: self.mode != ControlMode.STOPPED, 2)

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.group.pid(name), number)

    # --- what is seen ---------------------------------------------------------------------------

    @property
    def status(self) -> Any:
        return self.seen["control/status"]

    @property
    def mode(self) -> ControlMode:
        return ControlMode(self.status.mode)

    @property
    def position(self) -> Any:
        p = self.seen["current_pose"].pose.position
        return np.array([p.x, p.y, p.z])

    @property
    def speed_m_s(self) -> float:
        v = self.seen["current_twist"].twist.linear
        return float(np.linalg.norm([v.x, v.y, v.z]))

    def is_moving(self) -> bool:
        return self.mode == ControlMode.TRACK and self.speed_m_s > MOVING_M_S

    def is_at_rest(self) -> bool:
        return self.mode != ControlMode.TRACK and self.speed_m_s < REST_M_S

    def wait(self, what: str, condition: Callable[[], bool], limit_s: float) -> float:
        """Serve callbacks until the condition holds; return how long that took [s]."""
        began = time.monotonic()
        while not condition():
            rclpy.spin_once(self.node, timeout_sec=0.02)
            if time.monotonic() - began > limit_s:
                raise AssertionError(f"waited {limit_s:g} s for {what}, in vain; {self._summary()}")
        return time.monotonic() - began

    def spin(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def call(self, client: Any, request: Any) -> Any:
        self.wait(client.srv_name, client.service_is_ready, 5)
        future = client.call_async(request)
        self.wait(f"the answer of {client.srv_name}", future.done, 5)
        return future.result()

    def _summary(self) -> str:
        starved = getattr(self.seen.get("executor/status"), "starved_reason", "")
        return f"mode {self.mode.name}, starved: {starved!r}, last: {self.seen.get('slow/status')}"

    def _keep(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            self.seen[topic] = message

        return keep
