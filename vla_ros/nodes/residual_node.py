# SPDX-License-Identifier: Apache-2.0
"""residual_node: an example of who corrects the fast policy: a known offset, or a person."""

from __future__ import annotations

from dataclasses import dataclass

from geometry_msgs.msg import Twist, TwistStamped
from std_srvs.srv import Trigger

import vla_ros_core as core
from vla_ros.config_fields import setting
from vla_ros.nodes.base import NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import twist_from_msg, twist_to_msg
from vla_ros.nodes.loop import RateLoop
from vla_ros.policies.hooks.offset_source import OffsetConfig, OffsetSource


@dataclass(frozen=True, kw_only=True)
class ResidualNodeConfig(OffsetConfig):
    """Parameters of the node; offsets can be changed while it runs."""

    base_frame: str = setting("fr3_link0", "frame of the corrections", read_only=True)
    rate_hz: float = setting(
        50.0, "corrections per second", unit="Hz", ge=1.0, le=500.0, read_only=True
    )


class ResidualNode(VlaNode):
    """Publishes corrections on ``residual``; takes velocities on ``residual_velocity``."""

    config_type = ResidualNodeConfig

    def __init__(self) -> None:
        super().__init__("residual_node")
        self._loop: RateLoop | None = None
        self._source = OffsetSource(self.config)
        self._refused = 0

    def on_setup(self, config: ResidualNodeConfig) -> None:
        """Open the topics."""
        self._pub = self.create_counted_publisher(TwistStamped, "residual")
        self.create_subscription(Twist, "residual_velocity", self._on_velocity, 1)
        self.create_service(Trigger, "~/zero", self._on_zero)

    def on_start(self) -> None:
        """Begin to correct."""
        self._loop = RateLoop("residual", self.config.rate_hz, self._publish, self.report_failure)
        self._loop.start()

    def on_stop(self) -> None:
        """Fall silent; what was applied fades."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def on_config_change(self, config: ResidualNodeConfig) -> None:
        """Take over another offset at the next correction."""
        self._source.config = config

    def health(self) -> NodeHealth:
        """Say what came that was no velocity."""
        return NodeHealth.ok("running", {"velocities refused": self._refused})

    def _on_velocity(self, message: Twist) -> None:
        if not self._source.push(twist_from_msg(message), core.monotonic_ns()):
            self._refused += 1

    def _on_zero(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._source.zero()
        response.success, response.message = True, "only the known offset is left"
        return response

    def _publish(self, now_ns: int) -> None:
        message = TwistStamped(twist=twist_to_msg(self._source.step(now_ns)))
        message.header.stamp = self.ros_time(now_ns)
        message.header.frame_id = self.config.base_frame
        self._pub.publish(message)


def main() -> None:
    """Run the node."""
    run_node(ResidualNode)
