# SPDX-License-Identifier: Apache-2.0
"""control_node: owns the simulated robot; its C++ thread runs the law, Python only looks on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vla_ros_msgs.msg import ControlStatus, Verdict
from vla_ros_msgs.srv import ResetScene

import vla_ros_core as core
from vla_ros.config_fields import setting
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.control.law_settings import LawSettings, to_law_config
from vla_ros.control.presets import behaviour_settings, load_preset
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import load_robot
from vla_ros.embodiment.urdf_tree import LinkTransform, UrdfTree
from vla_ros.errors import ConfigError, VlaRosError
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import pose_to_msg, transform_to_msg
from vla_ros.nodes.loop import RateLoop
from vla_ros.nodes.process import set_process_nice, thread_ids
from vla_ros.nodes.rings import unpack_snapshot
from vla_ros.nodes.target_topics import TargetTopics
from vla_ros.policies.instruction import parse_instruction
from vla_ros.sim.judge import Judge, JudgeVerdict
from vla_ros.sim.plants import plant_for
from vla_ros.types import ControlMode

_CALLBACK_NICE = 3
_STATUS_EVERY = 5  # published cycles
_TF_EVERY = 2
_JUDGE_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class ControlNodeConfig(ControlConfig):
    """Parameters of the control node."""

    preset: str = setting(
        "", "behaviour (a name of config/control, or a file); sets the gains it is about"
    )
    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    robot: str = setting("fr3", "robot: its name, or a .yaml file of your own", read_only=True)
    scene_model: str = setting(
        "", "compiled model (.mjb); empty: the bare arm is compiled now", read_only=True
    )
    scene_info: str = setting(
        "", "description of the scene (.json); empty: there is only the arm", read_only=True
    )
    priority: str = setting(
        "auto",
        "scheduling of the control thread",
        choices=("auto", "fifo", "normal", "none"),
        read_only=True,
    )
    publish_hz: float = setting(
        100.0, "rate of joint states and poses", unit="Hz", ge=10.0, le=250.0, read_only=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset:
            load_preset(self.preset)


class ControlNode(VlaNode):
    """Publishes what the control host measures and hands it stops, resumes and resets."""

    config_type = ControlNodeConfig
    default_nice = 0  # the control thread inherits it and may not be able to lower it

    def __init__(self) -> None:
        super().__init__("control_node")
        self._loop: RateLoop | None = None
        self._host: Any = None
        self._arm = arm_of(load_robot(self.config.robot))
        self._cycle = 0
        self.add_pre_set_parameters_callback(self._expand_preset)
        if self.config.preset:
            self.set_parameters([Parameter("preset", value=self.config.preset)])

    def on_setup(self, config: ControlNodeConfig) -> None:
        """Build the simulation and the control host; publish what never changes."""
        snapshot_ring = f"{config.shm_prefix}.sim_snapshot"
        self._simulated = plant_for(
            config.robot, config.scene_model, config.scene_info, snapshot_ring, config.rate_hz
        )
        self._arm = arm = self._simulated.arm
        self._plant = self._simulated.plant
        self._tree = UrdfTree(arm.urdf_xml)
        self._base_frame = arm.base_frame
        self._host = build_host(config, arm, self._plant, config.shm_prefix)
        self._reader = core.StateReader(config.shm_prefix)
        self._snapshot = core.ShmRing.open(snapshot_ring)
        self._judge_lock = threading.Lock()
        self._judge: Judge | None = None
        self._judged_epoch = 0
        self._verdict = JudgeVerdict(False, 0.0, "no goal")
        self._create_interfaces()
        self._targets = TargetTopics(self, self._host, self._change_law)
        self._publish_static(arm.urdf_xml)
        self._plant.request_reset(self._simulated.qpos_of(seed=0))

    def on_start(self) -> None:
        """Let the control thread run."""
        before = thread_ids()
        self._host.start(self.config.priority)
        # Everything else here stands back behind the control thread.
        set_process_nice(_CALLBACK_NICE, spared=thread_ids() - before)
        self.get_logger().info(f"control thread: {self._host.priority}")
        # Below the control thread and below the callbacks that take stops.
        self._loop = RateLoop(
            "publish", self.config.publish_hz, self._publish, self.report_failure, nice=5
        )
        self._loop.start()

    def on_stop(self) -> None:
        """Stop publishing, then the control thread."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None
            self._host.shutdown()

    def on_config_change(self, config: ControlNodeConfig) -> None:
        """Ramp to changed gains; a value that the law refuses is answered with its reason."""
        law = to_law_config(config, self._arm)
        if self._host is not None:
            self._host.set_law(law)

    def _change_law(self, change: Callable[[core.LawConfig], None]) -> None:
        # From the settings in force, so that changes by topic do not add up.
        law = to_law_config(self.config, self._arm)
        change(law)
        self._host.set_law(law)

    def _expand_preset(self, changes: list[Parameter]) -> list[Parameter]:
        """Add the settings that a preset stands for, but for those that come with it."""
        wanted = next((p.value for p in changes if p.name == "preset"), "")
        if not wanted or not isinstance(wanted, str):
            return changes
        try:
            settings = load_preset(wanted, self.config)
        except ConfigError:
            return changes  # judged, and refused with the reason, as any other value
        named = {p.name for p in changes}
        for name in behaviour_settings():
            if name not in named:
                kind = type(getattr(LawSettings, name))  # a file may say 200 for 200.0
                value = kind(getattr(settings, name))
                listed = [float(v) for v in value] if kind is tuple else value
                changes.append(Parameter(name, value=listed))
        return changes

    def health(self) -> NodeHealth:
        """Say how the loop keeps its time and what it refused."""
        counters, timing = self._host.counters(), self._host.timing()
        plain = {k: v for k, v in counters.items() if not isinstance(v, dict)}
        values: dict[str, Any] = dict(plain)
        values |= {f"rejected: {k}": v for k, v in counters["rejected"].items()}
        values |= dict(self._targets.refusals)
        values |= {k: round(v, 1) for k, v in timing.items()}
        values["priority"] = self._host.priority
        skipped = counters["skipped"] / max(1, counters["ticks"])
        if self._host.state()["mode"] == ControlMode.FAULT:
            return NodeHealth.error("control law failed: gravity and damping only", values)
        if skipped > 0.01:
            return NodeHealth.warn(f"{100 * skipped:.1f} % of ticks skipped", values)
        return NodeHealth.ok("running", values)

    def _create_interfaces(self) -> None:
        self._joint_pub = self.create_counted_publisher(JointState, "joint_states")
        self._pose_pub = self.create_counted_publisher(PoseStamped, "current_pose")
        self._commanded_pub = self.create_counted_publisher(PoseStamped, "commanded_pose")
        self._twist_pub = self.create_counted_publisher(TwistStamped, "current_twist")
        self._wrench_pub = self.create_counted_publisher(WrenchStamped, "external_wrench")
        self._tf_pub = self.create_counted_publisher(TFMessage, "/tf")
        self._tf_static_pub = self.create_counted_publisher(TFMessage, "/tf_static", LATCHED)
        self._urdf_pub = self.create_counted_publisher(String, "robot_description", LATCHED)
        self._status_pub = self.create_counted_publisher(ControlStatus, "control/status")
        self._verdict_pub = self.create_counted_publisher(Verdict, "judge/verdict")
        self.create_subscription(Empty, "stop", lambda _: self._stop("topic"), 10)
        self.create_service(Trigger, "~/stop", self._on_stop_service)
        self.create_service(Trigger, "~/resume", self._on_resume_service)
        self.create_service(ResetScene, "~/reset_scene", self._on_reset_scene)

    def _stop(self, origin: str) -> None:
        # First the flag, then words: nothing may come between request and effect.
        self._host.stop()
        self.get_logger().warning(f"stop requested by {origin}")

    def _on_stop_service(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        self._stop("service")
        response.success, response.message = True, "stopping; call ~/resume to go on"
        return response

    def _on_resume_service(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        self._host.resume()
        response.success, response.message = True, "segments and targets are accepted again"
        return response

    def _on_reset_scene(
        self, request: ResetScene.Request, response: ResetScene.Response
    ) -> ResetScene.Response:
        try:
            goal = parse_instruction(request.goal) if request.goal else None
            qpos = self._simulated.qpos_of(request.seed)
            judge = Judge(self._simulated.cell(), goal) if goal else None
        except VlaRosError as error:
            response.success, response.message = False, str(error)
            return response
        before = self._plant.scene_epoch
        with self._judge_lock:
            self._judge, self._judged_epoch = judge, before + 1
        self._plant.request_reset(qpos)
        response.success, response.message = True, f"layout of seed {request.seed}"
        response.scene_epoch = before + 1
        return response

    def _publish(self, now_ns: int) -> None:
        state = self._reader.latest()
        if state is None:
            return
        self._cycle += 1
        self._publish_state(state, with_tf=self._cycle % _TF_EVERY == 0)
        if self._cycle % _JUDGE_EVERY == 0:
            self._publish_verdict()
        if self._cycle % _STATUS_EVERY == 0:
            self._publish_status(state)

    def _publish_state(self, state: dict[str, Any], with_tf: bool) -> None:
        stamp = self.ros_time(state["tick_ns"])
        fingers = self._simulated.finger_joints
        at_rest = [0.0] * len(fingers)
        joints = JointState()
        joints.header.stamp = stamp
        joints.name = [*self._simulated.arm.joint_names, *fingers]
        joints.position = [*state["q"], *(0.5 * state["gripper_width_m"] for _ in fingers)]
        joints.velocity = [*state["dq"], *at_rest]
        joints.effort = [*state["tau"], *at_rest]
        self._joint_pub.publish(joints)
        self._pose_pub.publish(self._pose(stamp, state["position"], state["quat_xyzw"]))
        self._commanded_pub.publish(
            self._pose(stamp, state["ref_position"], state["ref_quat_xyzw"])
        )
        twist = TwistStamped()
        twist.header.stamp, twist.header.frame_id = stamp, self._base_frame
        linear, angular = twist.twist.linear, twist.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = state["twist"]
        self._twist_pub.publish(twist)
        wrench = WrenchStamped()
        wrench.header = twist.header
        force, torque = wrench.wrench.force, wrench.wrench.torque
        force.x, force.y, force.z, torque.x, torque.y, torque.z = state["wrench_external"]
        self._wrench_pub.publish(wrench)
        if with_tf:
            positions = dict(zip(joints.name, joints.position, strict=True))
            moving = self._tree.moving_transforms(positions)
            self._tf_pub.publish(TFMessage(transforms=[transform_to_msg(t, stamp) for t in moving]))

    def _pose(self, stamp: Any, position: list[float], quat_xyzw: list[float]) -> PoseStamped:
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = stamp, self._base_frame
        message.pose = pose_to_msg(position, quat_xyzw)
        return message

    def _publish_verdict(self) -> None:
        entry = self._snapshot.read_latest()
        if entry is None:
            return
        qpos, qvel, tick_ns, scene_epoch = unpack_snapshot(entry[2])
        with self._judge_lock:
            if self._judge is not None and scene_epoch == self._judged_epoch:
                self._verdict = self._judge.update(qpos, qvel, tick_ns)
            else:
                self._verdict = JudgeVerdict(False, 0.0, "no goal")
        message = Verdict()
        message.header.stamp = self.ros_time(tick_ns)
        message.scene_epoch = scene_epoch
        message.success = self._verdict.success
        message.success_since_s = self._verdict.success_since_s
        message.reason = self._verdict.reason
        self._verdict_pub.publish(message)

    def _publish_status(self, state: dict[str, Any]) -> None:
        counters, timing = self._host.counters(), self._host.timing()
        message = ControlStatus()
        message.header.stamp = self.ros_time(state["tick_ns"])
        message.mode = state["mode"]
        message.reason = _reason(state)
        message.priority = self._host.priority
        message.epoch = state["epoch"]
        message.source = state["source"]
        message.ticks, message.skipped = counters["ticks"], counters["skipped"]
        message.rate_hz = self.config.rate_hz
        message.period_us_p50 = timing["period_us_p50"]
        message.period_us_p99 = timing["period_us_p99"]
        message.compute_us_p50 = timing["compute_us_p50"]
        message.compute_us_p99 = timing["compute_us_p99"]
        message.segments_accepted = counters["accepted"]
        message.segments_rejected = sum(counters["rejected"].values())
        message.expired_brakes = counters["expired_brakes"]
        message.rows_after_expiry = counters["rows_after_expiry"]
        message.scene_epoch = state["scene_epoch"]
        self._status_pub.publish(message)

    def _publish_static(self, urdf_xml: str) -> None:
        self._urdf_pub.publish(String(data=urdf_xml))
        stamp = self.ros_time(core.monotonic_ns())
        world = LinkTransform("world", self._tree.root, np.zeros(3), np.array([0, 0, 0, 1.0]))
        # Joints that nothing moves, such as the legs below an arm, stand at zero.
        moved = {*self._simulated.arm.joint_names, *self._simulated.finger_joints}
        standing = {name: 0.0 for name in self._tree.moving_joints if name not in moved}
        fixed = [world, *self._tree.fixed_transforms(), *self._tree.moving_transforms(standing)]
        self._tf_static_pub.publish(
            TFMessage(transforms=[transform_to_msg(t, stamp) for t in fixed])
        )


_REASONS = {
    ControlMode.IDLE: "waiting for a segment or target",
    ControlMode.TRACK: "",
    ControlMode.BRAKE: "rows ran out or expired, targets stayed away, or authority ended",
    ControlMode.HOLD: "nothing fit to act on",
    ControlMode.STOPPED: "stop requested: call ~/resume",
    ControlMode.FAULT: "control law failed",
}


def _reason(state: dict[str, Any]) -> str:
    return _REASONS[ControlMode(state["mode"])]


def main() -> None:
    """Run the node."""
    run_node(ControlNode)
