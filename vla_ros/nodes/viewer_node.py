# SPDX-License-Identifier: Apache-2.0
"""viewer_node: the live 3-D view in a browser; idle while nobody looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from vla_ros_msgs.msg import ControlStatus, ExecutorStatus, SlowStatus, TaskState, Verdict

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.nodes.raw_inbox import RawInbox
from vla_ros.nodes.rings import FrameReader, RingReader, unpack_snapshot
from vla_ros.recording.session import Received
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.types import ControlMode
from vla_ros.viewer.robot_model import load_fr3
from vla_ros.viewer.scene import COLOURS, LiveView, ViewerConfig, ViewNumbers

_IMAGE_EVERY = 2  # poses
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_NEWEST_LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
_TOPICS: dict[str, tuple[type[Any], QoSProfile]] = {
    "joint_states": (JointState, _NEWEST),
    "control/status": (ControlStatus, _NEWEST),
    "executor/status": (ExecutorStatus, _NEWEST),
    "slow/status": (SlowStatus, _NEWEST),
    "task/state": (TaskState, _NEWEST_LATCHED),
    "judge/verdict": (Verdict, _NEWEST),
}


@dataclass(frozen=True, kw_only=True)
class ViewerNodeConfig:
    """Parameters of the viewer."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    scene_info: str = setting(
        "", "description of the simulated scene (.json); empty: robot only", read_only=True
    )
    host: str = setting(
        "127.0.0.1", "address to serve on; the view has no password", read_only=True
    )
    port: int = setting(
        8080, "port; the next free one is taken if it is busy", ge=0, le=65535, read_only=True
    )
    rate_hz: float = setting(
        10.0, "updates of poses per second", unit="Hz", ge=1.0, le=30.0, read_only=True
    )

    def __post_init__(self) -> None:
        check_fields(self)


class ViewerNode(VlaNode):
    """Looks at rings and topics a few times a second and moves what the browser shows."""

    config_type = ViewerNodeConfig
    default_nice = 12

    def __init__(self) -> None:
        super().__init__("viewer_node")
        self._view: LiveView | None = None
        self._newest: dict[str, Any] = {}
        self._turn = 0

    def on_setup(self, config: ViewerNodeConfig) -> None:
        """Build the scene and serve it."""
        self._info = SceneInfo.load(Path(config.scene_info)) if config.scene_info else None
        self._view = LiveView(load_fr3(), ViewerConfig(host=config.host, port=config.port))
        if self._info is not None:
            add_objects(self._view, self._info)
        self._began_ns = core.monotonic_ns()
        self._snapshot = RingReader(f"{config.shm_prefix}.sim_snapshot")
        self._frames = FrameReader(config.shm_prefix, self._view.config.cameras)
        self._inbox = RawInbox(self)
        for topic, (kind, qos) in _TOPICS.items():
            self._inbox.subscribe(kind, topic, qos, self._receiver(topic, kind))
        self._url_pub = self.create_counted_publisher(String, "viewer/url", LATCHED)
        self._url_pub.publish(String(data=self._view.url))
        self.get_logger().info(f"live view: {self._view.url}")
        self.create_timer(1.0 / config.rate_hz, self._update)

    def on_teardown(self) -> None:
        """Stop serving."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def health(self) -> NodeHealth:
        """Say where the view is and how many look at it."""
        if self._view is None:
            return NodeHealth.warn("stopped")
        values = {"url": self._view.url, "viewers": self._view.viewer_count()}
        return NodeHealth.ok("serving", values)

    def _receiver(self, topic: str, kind: type[Any]) -> Any:
        def receive(message: Received) -> None:
            self._newest[topic] = deserialize_message(message.data, kind)

        return receive

    def _update(self) -> None:
        view = self._view
        if view is None or not view.has_viewers():
            return
        self._inbox.collect()
        joints = self._newest.get("joint_states")
        positions = dict(zip(joints.name, joints.position, strict=False)) if joints else {}
        view.update(positions, self._object_poses())
        self._turn += 1
        if self._turn % _IMAGE_EVERY == 0:
            self._frames.reopen_if_abandoned()
            for name, frame in self._frames.latest().items():
                view.set_image(name, frame.rgb)
            elapsed_ns = core.monotonic_ns() - self._began_ns
            view.set_numbers(self._numbers(), elapsed_ns / NS_PER_S)

    def _object_poses(self) -> dict[str, tuple[Any, Any]]:
        if self._info is None:
            return {}
        self._snapshot.reopen_if_abandoned()
        entry = self._snapshot.latest()
        return object_poses(self._info, unpack_snapshot(entry[2])[0]) if entry else {}

    def _numbers(self) -> ViewNumbers:
        control, executor = self._newest.get("control/status"), self._newest.get("executor/status")
        slow, task = self._newest.get("slow/status"), self._newest.get("task/state")
        verdict = self._newest.get("judge/verdict")
        return ViewNumbers(
            control_hz=control.rate_hz if control else math.nan,
            fast_hz=executor.chunks_hz if executor else math.nan,
            slow_hz=slow.rate_hz if slow else math.nan,
            latent_age_ms=executor.latent_age_ms if executor else math.nan,
            mode=ControlMode(control.mode).name if control else "",
            reason=control.reason if control else "",
            phase=executor.phase if executor else "",
            instruction=task.instruction if task else "",
            success=bool(verdict and verdict.success),
        )


def add_objects(view: LiveView, info: SceneInfo) -> None:
    """Add the cubes and bowls of a scene to the view."""
    for colour in info.cube_qpos:
        view.add_box(f"{colour}_cube", info.cube_side_m, COLOURS[colour])
    b = info.bowl
    for colour in info.bowl_qpos:
        view.add_bowl(
            f"{colour}_bowl",
            b.inner_radius_m,
            b.outer_radius_m,
            b.height_m,
            b.floor_thickness_m,
            COLOURS[colour],
        )


def object_poses(info: SceneInfo, qpos: Any) -> dict[str, tuple[Any, Any]]:
    """Return position (3,) and quaternion (4,) xyzw of every object, in base."""
    poses = {}
    for colour, start in info.cube_qpos.items():
        w, x, y, z = qpos[start + 3 : start + 7]
        poses[f"{colour}_cube"] = (info.cube_position(qpos, colour), np.array([x, y, z, w]))
    for colour in info.bowl_qpos:
        position = np.array([*info.bowl_position(qpos, colour), 0.0])
        poses[f"{colour}_bowl"] = (position, np.array([0.0, 0.0, 0.0, 1.0]))
    return poses


def main() -> None:
    """Run the node."""
    run_node(ViewerNode)
