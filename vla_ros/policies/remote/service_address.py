# SPDX-License-Identifier: Apache-2.0
"""Addresses of ROS 2 services: ``ros:/policy``, or ``ros:/policy@7`` in domain 7."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.errors import ConfigError

SERVICE = "ros"
_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_VARIABLE = "ROS_DOMAIN_ID"
_LARGEST_DOMAIN = 232  # beyond it the ports of DDS do not exist


@dataclass(frozen=True)
class ServiceAddress:
    """A service and the domain it is in."""

    name: str
    domain: int

    def __str__(self) -> str:
        return f"{SERVICE}:{self.name}@{self.domain}"


def parse_service(text: str, environment: Mapping[str, str] | None = None) -> ServiceAddress:
    """Return the address of ``ros:<service>[@<domain>]``, the name with a leading slash.

    Without a domain it is that of this process: processes of a run have one of their own, and find
    the service only by an address that names its domain.

    Raises:
        ConfigError: if it is no such address.
    """
    known = os.environ if environment is None else environment
    name, at, domain = text.removeprefix(f"{SERVICE}:").partition("@")
    if not at:
        domain = known.get(_VARIABLE, "") or "0"
    is_number = domain.isascii() and domain.isdigit() and len(domain) <= len(str(_LARGEST_DOMAIN))
    if not text.startswith(f"{SERVICE}:") or not _NAME.fullmatch(name):
        raise ConfigError(f"address of a service must be ros:/<name>[@<domain>], got {text!r}")
    if not is_number or int(domain) > _LARGEST_DOMAIN:
        raise ConfigError(f"domain of {text!r} must be 0 to {_LARGEST_DOMAIN}, got {domain!r}")
    return ServiceAddress(name, int(domain))
