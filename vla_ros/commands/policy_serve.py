# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy serve``: a policy in a process of its own, asked by socket or ROS 2 service."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import ALLOWED, make_fast_policy, make_slow_policy
from vla_ros.policies.remote.link import is_service, listen, resolve_address
from vla_ros.policies.remote.server import PolicyServer, serve
from vla_ros.policies.remote.service_address import parse_service


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where it listens and where it computes."""

    listen: str = setting(
        "tcp:127.0.0.1:8765",
        "unix:<path>, tcp:<host>:<port>, or ros:/<service>[@<domain>]; whoever reaches it may ask",
    )
    provider: str = setting(AUTO, "where the graphs of an export run", choices=PROVIDERS)
    threads: int = setting(1, "threads on the CPU", ge=1, le=64)
    cache: bool = setting(False, "the slow half computes anew only what changed in the image")

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "listen", resolve_address(self.listen))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("policy", help=ALLOWED)
    add_options(parser.add_argument_group("how to serve"), ServeOptions)


def run(namespace: argparse.Namespace) -> int:
    """Serve until it is told to end."""
    options = read_options(namespace, ServeOptions)
    runtime = PolicyRuntime(
        session=SessionSettings(provider=options.provider, threads=options.threads),
        now_ns=time.monotonic_ns,
        cache=FeatureCacheConfig() if options.cache else None,
    )
    slow = make_slow_policy(namespace.policy, runtime)
    fast = make_fast_policy(namespace.policy, runtime)
    is_over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_over.set())
    server = PolicyServer(slow=slow, fast=fast, now_ns=time.monotonic_ns)

    def is_ready() -> None:
        say(f"{slow.name} is served at {options.listen}")

    if is_service(options.listen):
        _serve_by_service(server, options.listen, is_over.is_set, is_ready)
        return 0
    with listen(options.listen) as listener:
        is_ready()
        serve(lambda: server, listener, is_over.is_set)
    return 0


def _serve_by_service(
    server: PolicyServer, address: str, is_over: Callable[[], bool], is_ready: Callable[[], None]
) -> None:
    from vla_ros.nodes.policy_service import serve_by_service

    # As with TCP: this machine, unless told otherwise.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Shared-memory ports of a process that was killed block those that come after it.
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    serve_by_service(server, parse_service(address), is_over, is_ready)
