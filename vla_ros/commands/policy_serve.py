# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy serve``: a policy in a process of its own, asked by a socket."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from dataclasses import dataclass

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import ALLOWED, make_fast_policy, make_slow_policy
from vla_ros.policies.remote.link import listen, parse_address
from vla_ros.policies.remote.server import PolicyServer, serve


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where it listens and where it computes."""

    listen: str = setting(
        "tcp:127.0.0.1:8765", "unix:<path>, or tcp:<host>:<port>; whoever reaches it may ask"
    )
    provider: str = setting(AUTO, "where the graphs of an export run", choices=PROVIDERS)
    threads: int = setting(1, "threads on the CPU", ge=1, le=64)
    cache: bool = setting(False, "the slow half computes anew only what changed in the image")

    def __post_init__(self) -> None:
        check_fields(self)
        parse_address(self.listen)


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
    with listen(options.listen) as listener:
        say(f"{slow.name} is served at {options.listen}")
        server = PolicyServer(slow=slow, fast=fast, now_ns=time.monotonic_ns)
        serve(lambda: server, listener, is_over.is_set)
    return 0
