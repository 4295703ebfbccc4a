# SPDX-License-Identifier: Apache-2.0
"""control_node driven by plain targets over ROS, as simple clients do it at 50 Hz."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytest.importorskip("mujoco")

import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray
from std_srvs.srv import Trigger
from vla_ros_msgs.msg import Authority, ControlStatus
from vla_ros_msgs.srv import ClaimAuthority

from vla_ros.bringup import BringupConfig, nodes_for
from vla_ros.nodes.processes import (
    ProcessGroup,
    remove_shared_memory,
    run_environment,
    take_domain,
)
from vla_ros.nodes.stack import Stack
from vla_ros.sim.plant import FR3_JOINTS
from vla_ros.sim.prepare import prepare_scene
from vla_ros.types import ControlMode

pytestmark = pytest.mark.ros
PERIOD_S = 0.02
TOPICS = (
    ("control/status", ControlStatus),
    ("current_pose", PoseStamped),
    ("current_twist", TwistStamped),
    ("joint_states", JointState),
    ("external_wrench", WrenchStamped),
)


class Client:
    """control_node and supervisor_node as processes, and what a client of theirs has."""

    def __init__(self, folder: Path) -> None:
        domain, self._lock = take_domain()
        config = BringupConfig(
            shm_prefix=f"vla_ros.d{domain}.test", policy="classical", record=False, viewer=False
        )
        self.prefix = config.shm_prefix
        os.environ.update(run_environment(domain))
        remove_shared_memory(self.prefix)
        rclpy.init(domain_id=domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("test_client")
        specs = [
            spec
            for spec in nodes_for(config, prepare_scene(folder / "scene"))
            if spec.name in ("control_node", "supervisor_node")
        ]
        self.group = ProcessGroup(specs, {}, folder / "logs")
        self.log = folder / "logs" / "control_node.log"
        self.stack = Stack(self.group, self.node)
        self.seen: dict[str, Any] = {}
        for topic, kind in TOPICS:
            self.node.create_subscription(kind, topic, self._keep(topic), 5)
        create = self.node.create_publisher
        self.pose_pub = create(PoseStamped, "target_pose", 1)
        self.joint_pub = create(JointState, "target_joint", 1)
        self.wrench_pub = create(WrenchStamped, "target_wrench", 1)
        self.stiffness_pub = create(Float64MultiArray, "target_stiffness", 1)
        self.stop_pub = create(Empty, "stop", 1)
        self._alive_pub = create(Authority, "authority/keepalive", 1)
        try:
            self.stack.start()
            self.wait("the first state", lambda: len(self.seen) == len(TOPICS), 10)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.stack.stop()
        self.node.destroy_node()
        rclpy.try_shutdown()
        remove_shared_memory(self.prefix)
        self._lock.close()

    def _keep(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            self.seen[topic] = message

        return keep

    def wait(self, what: str, condition: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"waited {limit_s:g} s for {what}, in vain"
            rclpy.spin_once(self.node, timeout_sec=0.01)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(name, client.service_is_ready, 5)
        future = client.call_async(request)
        self.wait(f"the answer of {name}", future.done, 5)
        self.node.destroy_client(client)
        return future.result()

    def claim(self) -> None:
        answer = self.call(
            ClaimAuthority,
            "supervisor_node/claim",
            ClaimAuthority.Request(source="topic", claim=True),
        )
        assert answer.success, answer.message
        self.stream(lambda _: None, 0.2)

    def stream(self, send: Callable[[float], None], duration_s: float) -> None:
        """Call ``send(t)`` at 50 Hz with signs of life; serve callbacks in between."""
        begin = time.monotonic()
        k = 0
        while k * PERIOD_S < duration_s:
            self._alive_pub.publish(Authority(source="topic"))
            send(k * PERIOD_S)
            k += 1
            while time.monotonic() < begin + k * PERIOD_S:
                rclpy.spin_once(self.node, timeout_sec=0.002)

    def pose(self, position: Any, frame: str = "fr3_link0", scale: float = 1.0) -> PoseStamped:
        message = PoseStamped()
        message.header.frame_id = frame
        message.header.stamp = self.node.get_clock().now().to_msg()
        p = message.pose.position
        p.x, p.y, p.z = (float(v) for v in position)
        o = self.start_orientation
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = o.x * scale, o.y * scale, o.z * scale, o.w * scale
        return message

    def begin(self) -> Any:
        """Note where the arm is; return its position."""
        self.start_orientation = self.seen["current_pose"].pose.orientation
        return self.position

    @property
    def position(self) -> Any:
        p = self.seen["current_pose"].pose.position
        return np.array([p.x, p.y, p.z])

    @property
    def speed(self) -> float:
        v = self.seen["current_twist"].twist.linear
        return float(np.linalg.norm([v.x, v.y, v.z]))

    @property
    def mode(self) -> ControlMode:
        return ControlMode(self.seen["control/status"].mode)

    def set(self, **values: Any) -> tuple[bool, str]:
        messages = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=messages)
        answer = self.call(
            SetParametersAtomically, "control_node/set_parameters_atomically", request
        )
        return answer.result.successful, answer.result.reason

    def get(self, *names: str) -> list[Any]:
        request = GetParameters.Request(names=list(names))
        answer = self.call(GetParameters, "control_node/get_parameters", request)
        return [
            Parameter.from_parameter_msg(ParameterMsg(name=name, value=value)).value
            for name, value in zip(names, answer.values, strict=True)
        ]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(tmp_path_factory.mktemp("targets"))
    yield client
    client.close()


@pytest.fixture(autouse=True)
def at_rest(client: Client) -> None:
    client.call(Trigger, "control_node/resume", Trigger.Request())
    client.set(preset="default")
    client.wait("rest", lambda: client.speed < 0.005, 10)


def test_targets_without_authority_move_nothing_and_say_why(client: Client) -> None:
    start = client.begin()
    for _ in range(20):
        client.pose_pub.publish(client.pose(start + np.array([0.05, 0, 0])))
        client.wait("time to pass", lambda: True, 1)
        time.sleep(PERIOD_S)
    client.stream(lambda _: None, 0.3)
    assert np.linalg.norm(client.position - start) < 0.003
    assert "target_pose refused: no authority" in client.log.read_text(encoding="utf-8")


def test_stream_of_poses_is_followed_and_its_end_is_a_hold(client: Client) -> None:
    client.claim()
    start = client.begin()

    def circle(t: float) -> Any:
        return start + 0.04 * np.array([np.cos(2 * t) - 1.0, np.sin(2 * t), 0.0])

    def send(t: float) -> None:
        client.pose_pub.publish(client.pose(circle(t)))
        errors.append(np.linalg.norm(client.position - circle(t)))
        modes.append(client.mode)

    errors: list[float] = []
    modes: list[ControlMode] = []
    client.stream(send, 4.0)
    assert max(errors) > 0.0
    assert np.median(errors) < 0.012
    assert modes[-1] == ControlMode.TRACK
    client.stream(lambda _: None, 1.5)
    assert client.mode == ControlMode.HOLD
    assert client.speed < 0.005
    assert client.seen["control/status"].source == "topic"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frame": "world"}, "unknown frame"),
        ({"frame": "fr3_link4"}, "not in the base frame"),
        ({"scale": 1.2}, "quaternion not unit"),
        ({"position": [0.0, np.nan, 0.0]}, "not finite"),
        ({"position": [0.0, 0.9, 0.0]}, "too far from the reference"),
    ],
)
def test_bad_pose_is_refused_with_a_reason(client: Client, change: Any, reason: str) -> None:
    client.claim()
    start = client.begin()
    offset = change.pop("position", [0.0, 0.03, 0.0])
    client.stream(lambda _: client.pose_pub.publish(client.pose(start + offset, **change)), 0.4)
    assert np.linalg.norm(client.position - start) < 0.003
    client.stream(lambda _: None, 0.1)
    assert f"target_pose refused: {reason}" in client.log.read_text(encoding="utf-8")


def test_stop_outranks_targets(client: Client) -> None:
    client.claim()
    start = client.begin()
    client.stop_pub.publish(Empty())
    client.stream(
        lambda _: client.pose_pub.publish(client.pose(start + np.array([0, 0.05, 0]))), 0.6
    )
    assert client.mode == ControlMode.STOPPED
    assert np.linalg.norm(client.position - start) < 0.003


def test_joint_targets_lead_in_joint_control_by_name(client: Client) -> None:
    assert client.set(preset="joint_control") == (True, "")
    client.claim()
    now = client.seen["joint_states"]
    q = dict(zip(now.name, now.position, strict=True))
    goal = {name: q[name] + 0.1 for name in reversed(FR3_JOINTS)}
    message = JointState(name=list(goal), position=list(goal.values()))
    client.stream(lambda _: client.joint_pub.publish(message), 1.5)
    now = client.seen["joint_states"]
    reached = dict(zip(now.name, now.position, strict=True))
    for name in FR3_JOINTS:
        assert abs(reached[name] - goal[name]) < 0.02, name


def test_wrench_pushes_the_arm_and_fades(client: Client) -> None:
    client.claim()
    start = client.begin()
    message = WrenchStamped()
    message.header.frame_id = "fr3_link0"
    message.wrench.force.y = 10.0
    client.stream(lambda _: client.wrench_pub.publish(message), 1.0)
    assert 0.004 < (client.position - start)[1] < 0.015  # 10 N against 1000 N/m
    client.stream(lambda _: None, 2.5)
    assert np.linalg.norm(client.position - start) < 0.004


def test_presets_and_gains_change_live_and_refusals_say_why(client: Client) -> None:
    assert client.set(preset="soft") == (True, "")
    assert client.get("stiffness_trans", "stiffness_rot", "kind") == [200.0, 10.0, "impedance"]
    assert client.set(stiffness_trans=321.0) == (True, "")
    assert client.get("preset", "stiffness_trans") == ["soft", 321.0]
    done, reason = client.set(preset="hard")
    assert not done
    assert "unknown preset 'hard'; known: default" in reason
    done, reason = client.set(stiffness_trans=1e6)
    assert not done
    done, reason = client.set(joint_weights=[1.0, 0.5])
    assert not done
    assert "joint_weights needs 1 value or 7" in reason
    done, reason = client.set(rate_hz=500.0)
    assert not done
    assert client.get("stiffness_trans") == [321.0]


def test_every_gain_says_its_unit_and_range(client: Client) -> None:
    request = DescribeParameters.Request(names=["stiffness_trans", "kind", "friction_a"])
    trans, kind, friction = client.call(
        DescribeParameters, "control_node/describe_parameters", request
    ).descriptors
    assert trans.description == "translational stiffness [N/m]"
    assert trans.floating_point_range[0].to_value == 5000.0
    assert kind.additional_constraints == "one of impedance, operational_space, joint"
    assert friction.additional_constraints == "each 0.0 to 50.0"


def test_stiffness_by_topic_acts_and_bad_ones_are_refused(client: Client) -> None:
    client.claim()
    start = client.begin()
    client.stiffness_pub.publish(Float64MultiArray(data=[250.0] * 3 + [50.0] * 3))
    message = WrenchStamped()
    message.wrench.force.y = 5.0
    client.stream(lambda _: client.wrench_pub.publish(message), 1.5)
    assert 0.010 < (client.position - start)[1] < 0.03  # 5 N against 250 N/m
    bad = np.diag([250.0] * 3 + [50.0] * 3)
    bad[0, 1] = bad[1, 0] = 400.0
    for data in ([1.0, 2.0], list(bad.ravel()), [float("nan")] * 6):
        client.stiffness_pub.publish(Float64MultiArray(data=data))
        client.stream(lambda _: None, 1.1)  # refusals are said once a second
    log = client.log.read_text(encoding="utf-8")
    assert "target_stiffness refused: needs 6 or 36 values, got 2" in log
    assert "stiffness must have no negative eigenvalue" in log
    assert "stiffness must be finite" in log
