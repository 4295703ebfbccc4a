# SPDX-License-Identifier: Apache-2.0
"""A real ``ros2_control_node`` with mock hardware, and a client that talks to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_ros_msgs.msg import ControlStatus

from vla_ros.nodes.processes import remove_shared_memory, run_environment, take_domain

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "ros2_control"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PREFIX_VARIABLE = "VLA_ROS_ROS2_CONTROL_PREFIX"
SEGMENTS = "cartesian_segments"
CONTROLLERS = ("cartesian_impedance", "joint_impedance", "admittance", SEGMENTS)


def prefixes() -> list[Path]:
    """Folders that hold ros2_control and the plugins; empty if there is none."""
    given = os.environ.get(PREFIX_VARIABLE) or os.environ.get("AMENT_PREFIX_PATH", "")
    return [Path(p) for p in given.split(os.pathsep) if p]


def find(relative: str) -> Path | None:
    """Return a file of the prefixes."""
    return next((p / relative for p in prefixes() if (p / relative).exists()), None)


def environment() -> dict[str, str]:
    """Variables of processes that use the prefixes, in front of those of this process."""
    packages = Path(np.__file__).parents[1]
    libraries = [
        *(p / "lib" for p in prefixes()),
        Path(sys.prefix) / "lib",
        *packages.glob("ros_*.libs"),
        packages / "cmeel.prefix" / "lib",
    ]
    python = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    front = {
        "AMENT_PREFIX_PATH": [*prefixes(), Path(sys.prefix)],
        "LD_LIBRARY_PATH": libraries,
        "PYTHONPATH": [ROOT, *(p / python for p in prefixes())],
    }
    values = dict(os.environ)
    for name, paths in front.items():
        present = [p for p in values.get(name, "").split(os.pathsep) if p]
        values[name] = os.pathsep.join([*(str(p) for p in paths), *present])
    return values


# Whoever names the prefixes wants the tests: what is missing there is a failure.
NEEDS_ROS2_CONTROL = pytest.mark.skipif(
    not os.environ.get(PREFIX_VARIABLE)
    and (
        find("lib/controller_manager/ros2_control_node") is None
        or find("share/vla_ros_controllers/package.xml") is None
    ),
    reason=f"needs ros2_control and vla_ros_controllers: source them or set {PREFIX_VARIABLE}",
)


class MockRobot:
    """Starts the manager in a ROS domain of its own; ``close`` ends it."""

    def __init__(self, log: Path) -> None:
        self.domain, self._lock = take_domain()
        os.environ.update(run_environment(self.domain))
        self.log = log
        self.shm_prefix = f"vla_ros.d{self.domain}.plugin"
        remove_shared_memory(self.shm_prefix)
        settings = log.with_name("segments.yaml")
        settings.write_text(yaml.safe_dump(self._with_segments()), encoding="utf-8")
        program = find("lib/controller_manager/ros2_control_node")
        assert program is not None, prefixes()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    *(str(program), "--ros-args", "--params-file", str(CONFIG / "mock.yaml")),
                    *("--params-file", str(settings)),
                ],
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        rclpy.init(domain_id=self.domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node: Node = rclpy.create_node("plugin_test")
        self.urdf = (CONFIG / "mock_arm.urdf").read_text(encoding="utf-8")
        self._description = self.node.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=self.urdf))
        self.poses: list[PoseStamped] = []
        self.commands: list[JointState] = []
        self.status: ControlStatus | None = None
        self.refused: DiagnosticStatus | None = None
        self.target_pose = self.node.create_publisher(PoseStamped, "target_pose", 1)
        self.target_joint = self.node.create_publisher(JointState, "target_joint", 1)
        self.target_wrench = self.node.create_publisher(WrenchStamped, "target_wrench", 1)
        self.measured_wrench = self.node.create_publisher(WrenchStamped, "measured_wrench", 1)
        self.node.create_subscription(PoseStamped, "current_pose", self.poses.append, 10)
        for name in CONTROLLERS:
            self.node.create_subscription(JointState, f"{name}/command", self._on_command, 100)
            self.node.create_subscription(ControlStatus, f"{name}/status", self._on_status, 5)
            self.node.create_subscription(
                DiagnosticStatus, f"{name}/refused", self._on_refused, LATCHED
            )

    def _with_segments(self) -> dict[str, Any]:
        """Return parameters of one more controller, which listens to shared memory."""
        mock = yaml.safe_load((CONFIG / "mock.yaml").read_text(encoding="utf-8"))
        parameters = mock["cartesian_impedance"]["ros__parameters"]
        kind = mock["controller_manager"]["ros__parameters"]["cartesian_impedance"]
        return {
            "controller_manager": {"ros__parameters": {SEGMENTS: kind}},
            SEGMENTS: {"ros__parameters": {**parameters, "shm_prefix": self.shm_prefix}},
        }

    def _on_command(self, message: JointState) -> None:
        self.commands.append(message)

    def _on_status(self, message: ControlStatus) -> None:
        self.status = message

    def _on_refused(self, message: DiagnosticStatus) -> None:
        self.refused = message

    def ask(self, *arguments: str, status: int = 0) -> str:
        """Run ``vla-ros controllers`` and return what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "vla_ros.cli", "controllers", "--timeout-s", "20", *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        log = self.log.read_text()[-1500:]
        assert done.returncode == status, f"{done.stdout}{done.stderr}\n{log}"
        return done.stdout + done.stderr

    def activate(self, name: str) -> None:
        """Make one controller the only active one."""
        listed = [line.split() for line in self.ask("list").splitlines()]
        if name not in [words[0] for words in listed]:
            self.ask("load", name)
        active = [words[0] for words in listed if words[1] == "active"]
        # One that is active already is in both lists: it begins anew.
        self.ask("switch", "--activate", name, "--deactivate", *active)
        self.clear()
        self.wait(lambda: bool(self.commands) and self.status is not None)
        # From no torque to that of gravity at the rate that is allowed.
        self.spin(0.3)

    def clear(self) -> None:
        """Forget what was received."""
        self.poses.clear()
        self.commands.clear()
        self.status = self.refused = None

    def wait(self, condition: Callable[[], bool], limit_s: float = 10.0) -> None:
        """Spin until ``condition`` holds."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def spin(self, duration_s: float) -> None:
        """Receive for a while."""
        deadline = time.monotonic() + duration_s
        while (left_s := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left_s)

    def stream(self, publisher: Any, message: Any, duration_s: float, rate_hz: float = 50) -> None:
        """Publish a target again and again, stamped with the time."""
        for _ in range(round(duration_s * rate_hz)):
            message.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(message)
            self.spin(1 / rate_hz)

    def torque(self) -> np.ndarray:
        """Newest command, (7,) [N·m]."""
        seen = len(self.commands)
        self.wait(lambda: len(self.commands) > seen)
        return np.array(self.commands[-1].effort)

    def call(self, service: str) -> None:
        """Call a Trigger service."""
        client = self.node.create_client(Trigger, service)
        assert client.wait_for_service(5)
        future = client.call_async(Trigger.Request())
        self.wait(future.done)
        assert future.result().success

    def close(self) -> None:
        """End the manager."""
        self.node.destroy_node()
        rclpy.try_shutdown()
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
        remove_shared_memory(self.shm_prefix)


def pose_message(pose: PoseStamped, shift_m: Sequence[float], frame: str = "base") -> PoseStamped:
    """Return a pose displaced in base [m]."""
    message = PoseStamped()
    message.header.frame_id = frame
    p = pose.pose.position
    message.pose.position.x = p.x + shift_m[0]
    message.pose.position.y = p.y + shift_m[1]
    message.pose.position.z = p.z + shift_m[2]
    message.pose.orientation = pose.pose.orientation
    return message
