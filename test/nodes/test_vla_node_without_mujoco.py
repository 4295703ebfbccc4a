# SPDX-License-Identifier: Apache-2.0
"""The slow node belongs on a robot too: it must not need the simulator."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytestmark = pytest.mark.ros

SCRIPT = """
import sys
sys.modules["mujoco"] = None  # importing it now fails
import rclpy
from vla_ros.nodes.vla_node import SlowNode
from rclpy.lifecycle import TransitionCallbackReturn as Result

arguments = ["-p", "shm_prefix:=vla_ros.test_no_mujoco", "-p", "policy:=classical"]
rclpy.init(args=["--ros-args", *arguments])
node = SlowNode()
assert node.trigger_configure() == Result.SUCCESS
assert node.trigger_activate() == Result.SUCCESS
node.trigger_deactivate()
node.destroy_node()
print("works without MuJoCo")
"""


def test_slow_node_configures_and_runs_with_mujoco_not_importable() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert "works without MuJoCo" in done.stdout, done.stdout + done.stderr
