# SPDX-License-Identifier: Apache-2.0
"""control_node with the bare arm of every robot: what it publishes, and that it can be stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytest.importorskip("mujoco")

import rclpy
from geometry_msgs.msg import PoseStamped
from robot_wheels import installed_robot
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vla_ros_msgs.msg import ControlStatus
from vla_ros_msgs.srv import ResetScene

from vla_ros.bringup import BringupConfig, NodeSpec, nodes_for
from vla_ros.embodiment.robot import RobotConfig, known_robots, load_robot
from vla_ros.nodes.base import LATCHED
from vla_ros.nodes.processes import (
    ProcessGroup,
    remove_shared_memory,
    run_environment,
    take_domain,
)
from vla_ros.nodes.stack import BringupError, Stack
from vla_ros.sim.prepare import prepare
from vla_ros.types import ControlMode

pytestmark = [pytest.mark.ros, pytest.mark.sim]

TOPICS: dict[str, tuple[Any, Any]] = {
    "joint_states": (JointState, 10),
    "current_pose": (PoseStamped, 10),
    "commanded_pose": (PoseStamped, 10),
    "control/status": (ControlStatus, 10),
    "robot_description": (String, LATCHED),
    "/tf": (TFMessage, 10),
    "/tf_static": (TFMessage, LATCHED),
}
LIMIT_S = 15.0


class ArmCell:
    """The nodes of a bare arm in a ROS domain of their own; with ``alone``, only control_node."""

    def __init__(
        self, robot: RobotConfig, folder: Path, alone: dict[str, Any] | None = None
    ) -> None:
        self.robot = robot
        domain, self._lock = take_domain()
        self.prefix = f"vla_ros.d{domain}.arm"
        os.environ.update(run_environment(domain))
        remove_shared_memory(self.prefix)
        if alone is None:
            config = BringupConfig(robot=robot.name, scene="none", shm_prefix=self.prefix)
            specs = nodes_for(config, prepare(folder, config.scene, config.robot))
        else:
            parameters = {"shm_prefix": self.prefix} | alone
            specs = [NodeSpec(name="control_node", parameters=parameters, nice=0, respawn=False)]
        rclpy.init(domain_id=domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("test_client")
        self.seen: dict[str, Any] = {}
        for topic, (kind, qos) in TOPICS.items():
            self.node.create_subscription(kind, topic, self._keep(topic), qos)
        self.stack = Stack(ProcessGroup(specs, {}, folder / "logs"), self.node)

    def _keep(self, topic: str) -> Any:
        return lambda message: self.seen.__setitem__(topic, message)

    def close(self) -> None:
        self.stack.stop()
        self.node.destroy_node()
        rclpy.try_shutdown()
        remove_shared_memory(self.prefix)
        self._lock.close()

    def wait(self, what: str, condition: Any) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            rclpy.spin_once(self.node, timeout_sec=0.02)
            assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s for {what}, in vain"

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(name, client.service_is_ready)
        future = client.call_async(request)
        self.wait(f"an answer of {name}", future.done)
        return future.result()


# First those that start a node of their own: rclpy can be initialised once at a time.
def test_control_node_alone_compiles_the_arm_by_itself(tmp_path: Path) -> None:
    robot = load_robot("ur5e")
    cell = ArmCell(robot, tmp_path, {"robot": "ur5e", "rate_hz": 250.0})
    try:
        cell.stack.start()
        cell.wait("joint states", lambda: "joint_states" in cell.seen)
        assert tuple(cell.seen["joint_states"].name) == robot.joint_names
    finally:
        cell.close()


def test_model_compiled_for_another_rate_is_refused(tmp_path: Path) -> None:
    model = prepare(tmp_path / "model", "none", "ur5e").model
    parameters = {"robot": "ur5e", "rate_hz": 1000.0, "scene_model": str(model)}
    cell = ArmCell(load_robot("ur5e"), tmp_path, parameters)
    try:
        with pytest.raises(BringupError, match="control_node could not configure"):
            cell.stack.start()
        log = (tmp_path / "logs" / "control_node.log").read_text(encoding="utf-8")
        assert "has steps of 0.002 s" in log
    finally:
        cell.close()


@pytest.fixture(scope="module", params=known_robots())
def cell(request: Any, tmp_path_factory: Any) -> Iterator[ArmCell]:
    robot = installed_robot(request.param)
    cell = ArmCell(robot, tmp_path_factory.mktemp("arm"))
    try:
        cell.stack.start()
        cell.wait("every topic", lambda: set(cell.seen) == set(TOPICS))
        yield cell
    finally:
        cell.close()


def test_joint_states_have_the_robot_s_names_and_stand_at_home(cell: ArmCell) -> None:
    state = cell.seen["joint_states"]
    assert tuple(state.name) == cell.robot.joint_names
    np.testing.assert_allclose(state.position, cell.robot.home_q, atol=1e-3)
    assert len(state.velocity) == len(state.effort) == len(cell.robot.joint_names)
    assert cell.seen["control/status"].rate_hz == cell.robot.control.rate_hz


def test_poses_are_in_the_robot_s_base_frame(cell: ArmCell) -> None:
    for topic in ("current_pose", "commanded_pose"):
        assert cell.seen[topic].header.frame_id == cell.robot.base_frame


def test_transforms_reach_from_the_world_to_the_end_effector(cell: ArmCell) -> None:
    parents = {
        t.child_frame_id: t.header.frame_id
        for topic in ("/tf", "/tf_static")
        for t in cell.seen[topic].transforms
    }
    frame = cell.robot.ee_frame
    while frame in parents:
        frame = parents[frame]
    assert frame == "world"
    assert cell.robot.joint_names[0] in cell.seen["robot_description"].data


def test_arm_can_be_stopped_resumed_and_sent_home(cell: ArmCell) -> None:
    def mode() -> ControlMode:
        return ControlMode(cell.seen["control/status"].mode)

    assert cell.call(Trigger, "control_node/stop", Trigger.Request()).success
    cell.wait("the stop", lambda: mode() == ControlMode.STOPPED)
    assert cell.call(Trigger, "control_node/resume", Trigger.Request()).success
    cell.wait("the end of the stop", lambda: mode() != ControlMode.STOPPED)
    before = cell.seen["control/status"].scene_epoch
    assert cell.call(ResetScene, "control_node/reset_scene", ResetScene.Request()).success
    cell.wait("the reset", lambda: cell.seen["control/status"].scene_epoch == before + 1)


def test_goal_is_refused_where_there_is_nothing_to_grasp(cell: ArmCell) -> None:
    request = ResetScene.Request(goal="put the red cube in the purple bowl")
    answer = cell.call(ResetScene, "control_node/reset_scene", request)
    assert not answer.success
    assert "without a scene" in answer.message
