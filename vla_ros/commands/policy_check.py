# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy check``: everything that can be known of an export without a robot."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import VlaRosError
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.run_limit import RunLimit


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How the policy is tried."""

    provider: str = setting(AUTO, "where its graphs run", choices=PROVIDERS)
    threads: int = setting(1, "threads on the CPU", ge=1, le=64)
    limit_s: float = setting(30.0, "a run that takes longer is ended", unit="s", ge=0.01, le=3600.0)
    load_limit_s: float = setting(
        600.0,
        "making a session, which may build an engine, is given up after",
        unit="s",
        ge=0.01,
        le=3600.0,
    )
    instruction: str = setting("", "what to say to it; empty: something that it understands")

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("policy", help="folder of the export, or its manifest.yaml")
    add_options(parser.add_argument_group("how to try it"), CheckOptions)


def run(namespace: argparse.Namespace) -> int:
    """Say what is in order; 1 at the first thing that is not."""
    from vla_ros.policies.onnx.inspection import inspect_policy

    options = read_options(namespace, CheckOptions)
    limit = RunLimit(options.limit_s, _give_up)
    open_limit = RunLimit(options.load_limit_s, _give_up)
    runtime = PolicyRuntime(
        session=SessionSettings(provider=options.provider, threads=options.threads),
        now_ns=time.monotonic_ns,
        guard=limit,
        load_guard=limit,
        open_guard=open_limit,
        report=lambda text: None,  # every graph is shown with where it runs, and why there
    )
    try:
        for found in inspect_policy(open_policy(namespace.policy), runtime, options.instruction):
            say(f"ok    {found.what:<26}  {found.detail}")
    except VlaRosError as error:
        say(f"FAIL  {error}")
        return 1
    finally:
        limit.close()
        open_limit.close()
    return 0


def _give_up(why: str) -> None:
    """End the process: the thread that runs the graph cannot be ended."""
    say(f"FAIL  {why}")
    os._exit(1)
