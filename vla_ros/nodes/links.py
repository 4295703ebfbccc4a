# SPDX-License-Identifier: Apache-2.0
"""Makes ``remote:ros:/<service>`` lead somewhere; ROS is imported when the first is opened."""

from __future__ import annotations

from vla_ros.policies.remote.link import Link, register_link
from vla_ros.policies.remote.service_address import SERVICE, parse_service


def register_links() -> None:
    """Let policies be asked by ROS 2 services from now on in this process."""
    register_link(SERVICE, _open)


def _open(address: str) -> Link:
    from vla_ros.nodes.policy_link import ServiceLink

    return ServiceLink(parse_service(address))
