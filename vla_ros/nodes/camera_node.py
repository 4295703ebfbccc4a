# SPDX-License-Identifier: Apache-2.0
"""camera_node: renders the simulated cameras in its own process, from the state snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

import vla_ros_core as core
from vla_ros.config_fields import check_fields, setting
from vla_ros.embodiment.urdf_tree import LinkTransform
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.nodes.base import NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import (
    camera_info_to_msg,
    depth_png_to_msg,
    depth_to_millimetres,
    image_to_msg,
    jpeg_to_msg,
    transform_to_msg,
)
from vla_ros.nodes.loop import RateLoop
from vla_ros.nodes.rings import RingReader, unpack_snapshot
from vla_ros.perception.frame_codec import frame_bytes, pack_frame
from vla_ros.types import CameraFrame

if TYPE_CHECKING:
    from vla_ros.nodes.counting import CountingPublisher
    from vla_ros.sim.rendering import SceneRenderer

CAMERAS = ("scene_camera", "wrist_camera")
_RING_SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class CameraNodeConfig:
    """Parameters of the camera node."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    scene_model: str = setting("", "compiled scene (.mjb)", read_only=True)
    rate_hz: float = setting(10.0, "images per second", unit="Hz", ge=1.0, le=60.0, read_only=True)
    width: int = setting(224, "image width", unit="px", ge=32, le=1280, read_only=True)
    height: int = setting(224, "image height", unit="px", ge=32, le=1280, read_only=True)
    base_frame: str = setting("fr3_link0", "frame the cameras' poses are in", read_only=True)
    tick_code: bool = setting(
        True, "draw the time of the state into the image, to check every stamp", read_only=True
    )

    def __post_init__(self) -> None:
        check_fields(self)


class _CameraOutput:
    """Ring and topics of one camera."""

    def __init__(self, node: VlaNode, config: CameraNodeConfig, name: str) -> None:
        self.frame_id = f"{name}_optical_frame"
        size = frame_bytes(config.width, config.height)
        ring_name = f"{config.shm_prefix}.image.{name}"
        self._ring = core.ShmRing.create(ring_name, _RING_SLOTS, size)
        self._buffer = bytearray(size)
        self._seq = 0
        publish = node.create_counted_publisher
        self._jpeg: CountingPublisher = publish(CompressedImage, f"{name}/image_raw/compressed", 60)
        self._png: CountingPublisher = publish(
            CompressedImage, f"{name}/depth/image_raw/compressedDepth", 60
        )
        self._info: CountingPublisher = publish(CameraInfo, f"{name}/camera_info", 60)
        self._raw: CountingPublisher = publish(Image, f"{name}/image_raw", 2)
        self._raw_depth: CountingPublisher = publish(Image, f"{name}/depth/image_raw", 2)

    def write(self, frame: CameraFrame, state_seq: int) -> None:
        """Hand the frame to readers on this host."""
        self._seq += 1
        stamp = LatencyStamp(
            kind=StampKind.OBSERVATION,
            clock_id=core.clock_id(),
            seq=self._seq,
            anchor_seq=state_seq,
            capture_oldest_ns=frame.capture_ns,
            capture_newest_ns=frame.capture_ns,
            publish_ns=core.monotonic_ns(),
        )
        self._ring.write(stamp.to_bytes(), pack_frame(frame, self._buffer))

    def publish(self, frame: CameraFrame, stamp: Any) -> None:
        """Publish for recording and other hosts; raw pixels only if somebody listens."""
        self._jpeg.publish(jpeg_to_msg(frame.rgb, stamp, self.frame_id))
        self._info.publish(camera_info_to_msg(frame, stamp, self.frame_id))
        if self._raw.has_subscribers:
            self._raw.publish(image_to_msg(frame.rgb, "rgb8", stamp, self.frame_id))
        if frame.depth_m is None:
            return
        depth = depth_to_millimetres(frame.depth_m)
        self._png.publish(depth_png_to_msg(depth, stamp, self.frame_id))
        if self._raw_depth.has_subscribers:
            self._raw_depth.publish(image_to_msg(depth, "16UC1", stamp, self.frame_id))

    def close(self) -> None:
        self._ring.close()


class CameraNode(VlaNode):
    """Draws what the cameras would see at the newest simulated state."""

    config_type = CameraNodeConfig

    def __init__(self) -> None:
        super().__init__("camera_node")
        self._loop: RateLoop | None = None
        self._renderer: SceneRenderer | None = None
        self._images = 0
        self._last_seq = 0

    def on_setup(self, config: CameraNodeConfig) -> None:
        """Open the rings; the renderer is made by the thread that owns the GL context."""
        self._snapshot = RingReader(f"{config.shm_prefix}.sim_snapshot")
        self._outputs = {name: _CameraOutput(self, config, name) for name in CAMERAS}
        self._tf_pub = self.create_counted_publisher(TFMessage, "/tf")

    def on_start(self) -> None:
        """Begin to render."""
        self._renderer = None  # its GL context belongs to the thread that made it
        self._loop = RateLoop("cameras", self.config.rate_hz, self._step, self.report_failure)
        self._loop.start()

    def on_stop(self) -> None:
        """Stop rendering."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def on_teardown(self) -> None:
        """Give the rings back."""
        for output in self._outputs.values():
            output.close()

    def health(self) -> NodeHealth:
        """Say whether images flow."""
        values = {"images": self._images, "state_seq": self._last_seq}
        if self._images == 0:
            return NodeHealth.warn(f"no state in {self._snapshot.name} yet", values)
        return NodeHealth.ok("rendering", values)

    def _step(self, now_ns: int) -> None:
        if self._renderer is None:
            from vla_ros.sim.rendering import SceneRenderer

            c = self.config
            self._renderer = SceneRenderer(
                Path(c.scene_model), CAMERAS, c.width, c.height, tick_code=c.tick_code
            )
        entry = self._snapshot.latest()
        if entry is None or entry[0] == self._last_seq:
            self._snapshot.reopen_if_abandoned()
            return
        self._last_seq = entry[0]
        qpos, qvel, tick_ns, _ = unpack_snapshot(entry[2])
        frames = self._renderer.render(qpos, qvel, tick_ns)
        # All rings first: the slow policy must not wait for JPEG and PNG.
        for name, frame in frames.items():
            self._outputs[name].write(frame, entry[0])
        stamp = self.ros_time(tick_ns)
        # Extrinsics as of this exposure: exact for the camera on the hand too.
        poses = [self._extrinsics(self._outputs[n].frame_id, f) for n, f in frames.items()]
        self._tf_pub.publish(TFMessage(transforms=[transform_to_msg(p, stamp) for p in poses]))
        for name, frame in frames.items():
            self._outputs[name].publish(frame, stamp)
        self._images += len(frames)

    def _extrinsics(self, frame_id: str, frame: CameraFrame) -> LinkTransform:
        T = frame.T_base_camera
        quat_xyzw = matrix_to_quat_xyzw(T[:3, :3])
        return LinkTransform(self.config.base_frame, frame_id, T[:3, 3], quat_xyzw)


def main() -> None:
    """Run the node."""
    run_node(CameraNode)
