# SPDX-License-Identifier: Apache-2.0
"""Hooks around the fast policy of a node: corrections from a topic, every term to another one."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vla_ros_msgs.msg import HookTerms

import vla_ros_core as core
from vla_ros.nodes.base import VlaNode
from vla_ros.nodes.conversions import twist_from_msg
from vla_ros.policies.base import FastPolicy
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.fast_policy import HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.limiter import CommandLimiter
from vla_ros.policies.hooks.log import to_arrays
from vla_ros.policies.hooks.residual import BoundedResidual
from vla_ros.policies.hooks.residual_inbox import UNSTAMPED, ResidualInbox
from vla_ros.policies.hooks.settings import HookSettings
from vla_ros.policies.hooks.terms import HookedRows

# Reliable and unreliable sources are heard; one that is lost is replaced by the next.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class PolicyHooks:
    """A chain of hooks with its topics: ``residual`` in, ``hook_terms`` out.

    A correction is a TwistStamped: linear is a translation [m], angular a rotation vector [rad],
    both in the base frame, made at ``header.stamp``.

    Args:
        frame: the base frame.
        period_s: of the loop that asks the policy.

    Thread-safety: one thread, the loop's, calls ``begin_step`` and ``publish``; corrections come
    by the node's executor, which may also call ``problem`` and ``diagnostics``.

    Attributes:
        policy: the fast policy with the hooks around it.
    """

    def __init__(
        self,
        node: VlaNode,
        settings: HookSettings,
        policy: FastPolicy,
        frame: str,
        period_s: float,
    ) -> None:
        self._node, self._frame = node, frame
        self._rows: list[HookedRows] = []
        self._residual: BoundedResidual | None = None
        if settings.residual:
            config = settings.residual_config(period_s)
            self._residual = BoundedResidual(config)
            self._inbox = ResidualInbox(config, frame, settings.residual_max_age_s)
            self._topic = node.resolve_topic_name("residual")
            node.create_subscription(TwistStamped, "residual", self._on_residual, _NEWEST)
        limiter = CommandLimiter(settings.limiter_config())
        chain = HookChain(self._residual, limiter, self._rows.append)
        self.policy = HookedFastPolicy(PlainExpert(policy), chain)
        self._terms_pub = node.create_counted_publisher(HookTerms, "hook_terms")

    def begin_step(self, now_ns: int) -> None:
        """Take over the newest correction; call before the policy is asked."""
        self._rows.clear()
        newest = None if self._residual is None else self._inbox.take()
        if newest is not None and self._residual is not None:
            self._residual.offer(*newest, now_ns)

    def publish(self, now_ns: int) -> None:
        """Publish the terms of the step; call once its rows are committed."""
        stamp = self._node.ros_time(now_ns)
        for candidate, rows in enumerate(self._rows):
            message = hook_terms_to_msg(rows)
            message.header.stamp, message.header.frame_id = stamp, self._frame
            message.candidate = candidate
            self._terms_pub.publish(message)
        self._rows.clear()

    def problem(self, now_ns: int) -> str:
        """Return what keeps the residual from counting in full; empty if nothing does."""
        if self._residual is None:
            return ""
        sources = self._node.count_publishers(self._topic)
        if sources > 1:
            return f"{sources} sources publish {self._topic}: they take turns"
        if self._residual.is_silent(now_ns):
            why = f"; last refused, {self._inbox.last_refusal}" if self._inbox.last_refusal else ""
            return f"no fresh correction on {self._topic}, the residual fades{why}"
        return ""

    def diagnostics(self) -> dict[str, Any]:
        """Return the residual as it is applied, and what became of corrections."""
        if self._residual is None:
            return {}
        applied, refused = self._residual.applied, dict(self._inbox.refused)
        values: dict[str, Any] = {
            "residual_mm": round(1e3 * float(np.linalg.norm(applied[:3])), 3),
            "residual_mrad": round(1e3 * float(np.linalg.norm(applied[3:])), 3),
            "residual: accepted": self._inbox.accepted,
        }
        return values | {f"residual refused: {reason}": n for reason, n in refused.items()}

    def _on_residual(self, message: TwistStamped) -> None:
        stamp = message.header.stamp
        is_stamped = stamp.sec != 0 or stamp.nanosec != 0
        made_ns = self._node.times.to_monotonic(stamp) if is_stamped else UNSTAMPED
        value = twist_from_msg(message.twist)
        reason = self._inbox.put(value, message.header.frame_id, made_ns, core.monotonic_ns())
        if reason:
            self._node.get_logger().warning(
                f"residual refused: {reason}", throttle_duration_sec=1.0
            )


def hook_terms_to_msg(rows: HookedRows) -> HookTerms:
    """Return the message with the same numbers; its header is left to whoever knows the time."""
    message = HookTerms(target0_ns=rows.base.target0_ns, dt_ns=rows.base.dt_ns)
    for name, values in to_arrays(rows).items():
        # array('d') is taken over as it is; any other sequence is checked number by number.
        numbers = array.array("d")
        numbers.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        setattr(message, name, numbers)
    return message
