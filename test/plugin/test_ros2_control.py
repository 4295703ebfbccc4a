# SPDX-License-Identifier: Apache-2.0
"""The plugins in a real controller manager at 1 kHz, with mock hardware.

Needs ros2_control and the built plugins: source them, or name their prefixes, separated by colons,
in VLA_ROS_ROS2_CONTROL_PREFIX (docs/ros2-control.md).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("vla_ros_msgs", reason="needs vla_ros_msgs")

import mock_robot
from geometry_msgs.msg import WrenchStamped
from mock_robot import MockRobot, pose_message
from plugin_law import HOME, JOINTS, RATE_NM_S, goal, law_torque
from sensor_msgs.msg import JointState
from vla_ros_msgs.msg import ControlStatus

import vla_ros_core as core

pytestmark = [pytest.mark.ros, mock_robot.NEEDS_ROS2_CONTROL]

TIMEOUT_S = 0.2
CLOSE_NM = 1e-6


@pytest.fixture
def cartesian(robot: MockRobot) -> MockRobot:
    robot.activate("cartesian_impedance")
    return robot


def largest_step(robot: MockRobot) -> float:
    """Largest change of torque per second between two commands that were received [N·m/s]."""
    times = [c.header.stamp.sec + 1e-9 * c.header.stamp.nanosec for c in robot.commands]
    torques = np.array([c.effort for c in robot.commands])
    gaps = np.diff(times)
    return float(np.max(np.abs(np.diff(torques, axis=0)).max(axis=1) / np.maximum(gaps, 1e-3)))


def test_manager_knows_the_three_types(robot: MockRobot) -> None:
    types = robot.ask("types").split()
    for name in ("CartesianImpedance", "JointImpedance", "Admittance"):
        assert f"vla_ros_controllers/{name}Controller" in types


def test_hold_after_activation_is_the_law_s(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    expected = law_torque(cartesian.urdf, **goal(cartesian.poses[-1], (0, 0, 0)))
    assert np.abs(cartesian.torque() - expected).max() < CLOSE_NM
    assert np.linalg.norm(expected) > 5  # gravity of a raised arm
    assert cartesian.status.mode == ControlStatus.IDLE


def test_pose_target_gives_the_law_s_torque_and_rate_is_kept(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    pose = cartesian.poses[-1]
    shift = (0.03, -0.02, 0.02)
    cartesian.clear()
    cartesian.stream(cartesian.target_pose, pose_message(pose, shift), 2.0)
    assert cartesian.status.mode == ControlStatus.TRACK
    assert np.abs(
        cartesian.torque() - law_torque(cartesian.urdf, **goal(pose, shift))
    ).max() == pytest.approx(0, abs=CLOSE_NM)
    assert largest_step(cartesian) <= RATE_NM_S


def test_targets_that_stay_away_end_in_a_hold(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    pose = cartesian.poses[-1]
    rest = cartesian.torque()
    cartesian.stream(cartesian.target_pose, pose_message(pose, (0.03, 0, 0)), 1.0)
    assert np.abs(cartesian.torque() - rest).max() > 1
    cartesian.clear()
    cartesian.wait(lambda: cartesian.status is not None and cartesian.status.mode == 3, 3)
    cartesian.spin(0.5)
    # The mock does not move: a hold where the arm is leaves gravity only.
    assert np.abs(cartesian.torque() - rest).max() < 1e-3
    assert largest_step(cartesian) <= RATE_NM_S
    assert cartesian.status.expired_brakes >= 1


def test_wrench_is_fed_forward_and_fades(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    pose = cartesian.poses[-1]
    rest = cartesian.torque()
    message = WrenchStamped()
    message.header.frame_id = "base"
    message.wrench.force.z = -8.0
    cartesian.stream(cartesian.target_wrench, message, 1.0)
    expected = law_torque(cartesian.urdf, **goal(pose, (0, 0, 0)), wrench=[0, 0, -8.0, 0, 0, 0])
    assert np.abs(expected - rest).max() > 1
    assert np.abs(cartesian.torque() - expected).max() < 1e-3
    cartesian.spin(TIMEOUT_S + 3.0)
    assert np.abs(cartesian.torque() - rest).max() < 1e-3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "not finite"),
        ("quaternion", "quaternion not unit"),
        ("frame", "frame"),
        ("far", "far"),
        ("old", "old"),
    ],
)
def test_bad_pose_is_refused_with_a_reason(cartesian: MockRobot, what: str, words: str) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    rest = cartesian.torque()
    message = pose_message(cartesian.poses[-1], (0.03, 0, 0))
    message.header.stamp = cartesian.node.get_clock().now().to_msg()
    if what == "nan":
        message.pose.position.y = math.nan
    elif what == "quaternion":
        message.pose.orientation.w += 0.5
    elif what == "frame":
        message.header.frame_id = "link3"
    elif what == "far":
        message.pose.position.x += 2.0
    else:
        message.header.stamp.sec -= 5
    cartesian.refused = None
    cartesian.target_pose.publish(message)
    cartesian.wait(lambda: cartesian.refused is not None)
    assert cartesian.refused.message.startswith("target_pose: ")
    assert words in cartesian.refused.message
    assert np.abs(cartesian.torque() - rest).max() < CLOSE_NM


def test_stop_holds_until_resumed(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    rest = cartesian.torque()
    message = pose_message(cartesian.poses[-1], (0.03, 0, 0))
    cartesian.call("cartesian_impedance/stop")
    cartesian.stream(cartesian.target_pose, message, 0.5)
    assert cartesian.status.mode == ControlStatus.STOPPED
    assert "stop" in cartesian.refused.message
    assert np.abs(cartesian.torque() - rest).max() < 1e-3
    cartesian.call("cartesian_impedance/resume")
    cartesian.stream(cartesian.target_pose, message, 0.5)
    assert np.abs(cartesian.torque() - rest).max() > 1


def test_gains_change_while_active_and_bad_ones_change_nothing(cartesian: MockRobot) -> None:
    cartesian.wait(lambda: bool(cartesian.poses))
    pose = cartesian.poses[-1]
    soft = "task.stiffness=[400.0, 400.0, 400.0, 40.0, 40.0, 40.0]"
    cartesian.ask("set-gains", "cartesian_impedance", soft)
    said = cartesian.ask(
        "set-gains",
        "cartesian_impedance",
        "task.stiffness=[-5.0, 400.0, 400.0, 40.0, 40.0, 40.0]",
        "task.damping_ratio=0.5",
        status=2,
    )
    assert "stiffness[0,0]" in said
    kept = cartesian.ask("get-gains", "cartesian_impedance", "task.stiffness", "task.damping_ratio")
    assert "[400.0, 400.0" in kept
    assert "task.damping_ratio = 1.0" in kept
    rest = cartesian.torque()
    cartesian.stream(cartesian.target_pose, pose_message(pose, (0.02, 0, 0)), 2.0)
    full = law_torque(cartesian.urdf, **goal(pose, (0.02, 0, 0)))
    part = (cartesian.torque() - rest) / np.where(np.abs(full - rest) > 0.5, full - rest, np.inf)
    assert part[part != 0] == pytest.approx(0.5, abs=1e-3)
    back = soft.replace("400", "800")
    cartesian.ask("set-gains", "cartesian_impedance", back)


def test_second_activation_goes_on_from_the_torque_in_force(cartesian: MockRobot) -> None:
    rest = cartesian.torque()
    cartesian.ask("switch", "--deactivate", "cartesian_impedance")
    cartesian.clear()
    cartesian.ask("switch", "--activate", "cartesian_impedance")
    cartesian.wait(lambda: len(cartesian.commands) > 10)
    assert np.abs(np.array(cartesian.commands[0].effort) - rest).max() < 1e-3
    assert largest_step(cartesian) <= RATE_NM_S


def test_joint_target_is_matched_by_name(robot: MockRobot) -> None:
    robot.activate("joint_impedance")
    wanted = HOME + np.array([0.1, -0.05, 0.05, 0.1, -0.1, 0.05, 0.1])
    order = [3, 0, 6, 1, 5, 2, 4]
    message = JointState(name=[JOINTS[i] for i in order], position=[wanted[i] for i in order])
    robot.stream(robot.target_joint, message, 2.0)
    robot.wait(lambda: bool(robot.poses))
    pose = goal(robot.poses[-1], (0, 0, 0))
    expected = law_torque(robot.urdf, kind=core.LawKind.JOINT, posture=wanted, **pose)
    assert np.abs(robot.torque() - expected).max() < 1e-3


@pytest.mark.parametrize("names", [JOINTS[:6], [*JOINTS[:6], "finger"], [*JOINTS[:6], "joint1"]])
def test_wrong_joint_names_are_refused(robot: MockRobot, names: list[str]) -> None:
    robot.activate("joint_impedance")
    rest = robot.torque()
    robot.refused = None
    robot.stream(robot.target_joint, JointState(name=names, position=[0.1] * len(names)), 0.2)
    robot.wait(lambda: robot.refused is not None)
    assert robot.refused.message.startswith("target_joint: ")
    assert np.abs(robot.torque() - rest).max() < 1e-3


def test_admittance_yields_to_a_force_and_comes_back(robot: MockRobot) -> None:
    robot.activate("admittance")
    robot.wait(lambda: bool(robot.poses))
    start = robot.poses[-1].pose.position.z
    message = WrenchStamped()
    message.header.frame_id = "base"
    message.wrench.force.z = -10.0
    robot.stream(robot.measured_wrench, message, 4.0)
    # 10 N less a dead band of 2 N on 200 N/m.
    assert robot.poses[-1].pose.position.z - start == pytest.approx(-0.040, abs=1e-3)
    robot.spin(4.0)
    assert robot.poses[-1].pose.position.z - start == pytest.approx(0.0, abs=1e-3)


def test_rate_and_cost_are_reported(cartesian: MockRobot, record_property: Any) -> None:
    cartesian.spin(2.0)
    status = cartesian.status
    for name in ("rate_hz", "period_us_p50", "period_us_p99", "compute_us_p50", "compute_us_p99"):
        record_property(name, getattr(status, name))
    assert status.rate_hz > 800
    assert 0 < status.compute_us_p50 < 500
