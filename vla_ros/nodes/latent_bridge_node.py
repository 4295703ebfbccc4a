# SPDX-License-Identifier: Apache-2.0
"""latent_bridge_node: latents of a ring to a topic, or of a topic to a ring, on another host."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from rclpy.qos import QoSProfile, ReliabilityPolicy
from vla_ros_msgs.msg import Latent as LatentMsg

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, OverwrittenError, ShapeError
from vla_ros.latency.buffer import Admission
from vla_ros.latency.clock_domain import ClockGate, ClockOffset
from vla_ros.latency.relay import LatentRelay
from vla_ros.latency.ring import LatentReader, LatentWriter
from vla_ros.nodes.base import NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import latent_from_msg, latent_to_msg
from vla_ros.nodes.loop import describe

_WAIT_S = 0.1
# The newest is all that counts: a reader that falls behind must not work off what is old.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, kw_only=True)
class LatentBridgeConfig:
    """Parameters of the bridge."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    direction: str = setting(
        "to_ring",
        "to_ring: receive the topic and write the ring; to_topic: the other way",
        choices=("to_ring", "to_topic"),
        read_only=True,
    )
    topic: str = setting("latent", "topic of the latents", read_only=True)
    max_latent_mb: float = setting(
        1.0, "longest latent the ring takes", unit="MiB", ge=0.001, le=64.0, read_only=True
    )
    foreign_clock_id: str = setting(
        "", "boot id of a host whose clock is understood here; empty: none", read_only=True
    )
    clock_offset_ms: float = setting(
        0.0, "that clock minus ours", unit="ms", ge=-1e12, le=1e12, read_only=True
    )
    clock_uncertainty_ms: float = setting(
        10.0,
        "how far off that may be; taken off the validity of every latent",
        unit="ms",
        ge=0.0,
        le=1000.0,
        read_only=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        self.offsets()

    def offsets(self) -> tuple[ClockOffset, ...]:
        """Return the other clocks that are understood."""
        if not self.foreign_clock_id:
            return ()
        try:
            clock_id = bytes.fromhex(self.foreign_clock_id.replace("-", ""))
        except ValueError as error:
            raise ConfigError(
                f"foreign_clock_id must be a boot id in hexadecimal, got {self.foreign_clock_id!r}"
            ) from error
        return (
            ClockOffset(
                clock_id=clock_id,
                offset_ns=round(self.clock_offset_ms * NS_PER_MS),
                uncertainty_ns=round(self.clock_uncertainty_ms * NS_PER_MS),
            ),
        )


class LatentBridgeNode(VlaNode):
    """Passes latents on between shared memory and a topic, by the rules of the latent buffer."""

    config_type = LatentBridgeConfig

    def __init__(self) -> None:
        super().__init__("latent_bridge_node")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._writer: LatentWriter | None = None
        self._is_active = False
        self._unreadable = 0
        self._last_error = ""

    def on_setup(self, config: LatentBridgeConfig) -> None:
        """Open the ring and the topic."""
        self._relay = LatentRelay(ClockGate(core.clock_id(), config.offsets()))
        name = f"{config.shm_prefix}.latent"
        if config.direction == "to_topic":
            self._reader = LatentReader(name)
            self._latent_pub = self.create_counted_publisher(LatentMsg, config.topic, _NEWEST)
            return
        self._writer = LatentWriter(name, round(config.max_latent_mb * 2**20))
        self.create_subscription(LatentMsg, config.topic, self._on_latent, _NEWEST)

    def on_start(self) -> None:
        """Begin to pass on."""
        self._is_active = True
        if self.config.direction == "to_topic":
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
            self._thread.start()

    def on_stop(self) -> None:
        """Pass nothing on any more."""
        self._is_active = False
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
            self._thread = None

    def on_teardown(self) -> None:
        """Give the ring back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def health(self) -> NodeHealth:
        """Say what was passed on and what was refused."""
        counts = {admission.value: n for admission, n in self._relay.counts.items()}
        values = counts | {"unreadable": self._unreadable, "clock_id": core.clock_id().hex()}
        if self._last_error:
            return NodeHealth.warn(self._last_error, values)
        if self._relay.counts[Admission.WRONG_CLOCK]:
            return NodeHealth.warn(
                "latents with the clock of another host: set foreign_clock_id, clock_offset_ms "
                "and clock_uncertainty_ms",
                values,
            )
        return NodeHealth.ok(f"{self.config.direction}: {self.config.topic}", values)

    def _run(self) -> None:
        seq = 0
        while not self._stopping.is_set():
            try:
                if not self._reader.wait(seq, _WAIT_S):
                    if self._reader.reopen_if_abandoned():
                        seq = 0  # a ring that was made anew counts from the beginning
                    self._stopping.wait(_WAIT_S / 10)
                    continue
                entry = self._reader.newest(seq)
                if entry is None:
                    continue
                seq = entry.seq
                latent = self._relay.pass_on(entry.copy(), core.monotonic_ns())
                if latent is not None:
                    self._publish(latent_to_msg(latent), latent.stamp.publish_ns)
            except OverwrittenError:
                continue  # a newer one is there already
            except Exception as error:  # one bad latent must not end the bridge
                self._refuse(error)

    def _publish(self, message: LatentMsg, publish_ns: int) -> None:
        message.header.stamp = self.ros_time(publish_ns)
        self._latent_pub.publish(message)

    def _on_latent(self, message: LatentMsg) -> None:
        if not self._is_active or self._writer is None:
            return
        try:
            latent = self._relay.pass_on(latent_from_msg(message), core.monotonic_ns())
            if latent is not None:
                self._writer.write(latent.tensors, latent.stamp)
        except ShapeError as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._unreadable += 1
        self._last_error = describe(error)
        self.get_logger().warning(self._last_error, throttle_duration_sec=1.0)


def main() -> None:
    """Run the node."""
    run_node(LatentBridgeNode)
