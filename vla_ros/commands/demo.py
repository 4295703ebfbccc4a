# SPDX-License-Identifier: Apache-2.0
"""``vla-ros demo``: the whole stack in real time, in simulation, on language instructions."""

from __future__ import annotations

import argparse
import os
import signal
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.bringup import SIMULATED, BringupConfig, default_run_folder, free_port, nodes_for
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say, show_progress, show_table
from vla_ros.config_fields import check_fields, setting
from vla_ros.embodiment.robot import load_robot
from vla_ros.errors import ConfigError
from vla_ros.nodes.links import register_links
from vla_ros.policies.instruction import parse_instruction
from vla_ros.policies.registry import make_instruction_check, verify_policy
from vla_ros.sim.prepare import prepare_scene
from vla_ros.sim.tasks import instruction_for_seed

if TYPE_CHECKING:
    from vla_ros.report.summary import EpisodeResult

HELP = "run the whole stack in simulation and watch it follow instructions"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo does."""

    episodes: int = setting(3, "number of episodes", ge=1, le=1000)
    seed: int = setting(0, "first seed; episode i uses seed + i", ge=0, le=10**9)
    instruction: str = setting("", "instruction for every episode; empty: one per seed")
    threshold: float = setting(0.9, "success rate from which the exit status is 0", ge=0.0, le=1.0)
    max_duration_s: float = setting(
        40.0, "an episode fails after this time", unit="s", ge=1.0, le=600.0
    )
    out: str = setting("runs", "folder for the results")
    video: bool = setting(True, "make a video from the recording")
    headless: bool = setting(False, "no live view (same as --no-viewer)")
    keep_alive: bool = setting(False, "leave everything running at the end, until Ctrl-C")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.instruction:
            parse_instruction(self.instruction)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to do"), DemoConfig)
    add_options(
        parser.add_argument_group("what to run"), BringupConfig, hidden=("shm_prefix", "scene")
    )


def run(namespace: argparse.Namespace) -> int:
    """Run the demo; 0 if the success rate reaches the threshold, 1 if not, 2 for bad input."""
    demo = read_options(namespace, DemoConfig)
    robot = load_robot(namespace.robot or SIMULATED).name
    from vla_ros.nodes import processes

    domain, lock = processes.take_domain()
    try:
        extra: dict[str, Any] = {"shm_prefix": f"vla_ros.d{domain}.{robot}"}
        if demo.headless:
            extra["viewer"] = False
        # Checked first: a free port is looked for from a valid one.
        bringup = read_options(namespace, BringupConfig, **extra)
        check_policy(bringup, demo.instruction)
        if bringup.viewer:
            bringup = replace(bringup, port=free_port(bringup.port))
        os.environ.update(processes.run_environment(domain))
        processes.remove_shared_memory(bringup.shm_prefix)
        return _run(demo, bringup, processes)
    finally:
        processes.remove_shared_memory(f"vla_ros.d{domain}")
        lock.close()


def check_policy(bringup: BringupConfig, instruction: str) -> None:
    """Check files and words before anything is started, so that the message is the first.

    Raises:
        ConfigError: if a file of the policy is missing, truncated or changed.
        InstructionError: if the policy does not understand the instruction.
    """
    if bringup.scene == "none":
        return
    verify_policy(bringup.policy)
    register_links()  # a policy may be served by ROS 2
    if instruction:
        make_instruction_check(bringup.policy).check_instruction(instruction)


def _run(demo: DemoConfig, bringup: BringupConfig, processes: Any) -> int:
    # Imported here: --help must not wait for rclpy.
    from vla_ros.commands.results import write_results
    from vla_ros.nodes.session import client_node

    began = time.monotonic()
    folder = make_run_folder(Path(demo.out))
    if bringup.viewer:
        say(f"live view   http://127.0.0.1:{bringup.port}")
    say(f"policy      {bringup.policy}, slow latency {bringup.slow_latency_ms:g} ms")
    say(f"results     {folder}")
    specs = nodes_for(bringup, prepare_scene(folder / "scene"))
    signal.signal(signal.SIGTERM, _interrupt)
    group = processes.ProcessGroup(specs, {}, folder / "logs")
    report = _Report()
    with client_node("vla_ros_demo") as node:
        try:
            _run_episodes(demo, bringup, folder, group, node, report, began)
        except KeyboardInterrupt:
            say("interrupted: shutting down")
        finally:
            group.stop()
    summary = write_results(
        folder,
        bringup,
        report.results,
        report.live,
        report.faults,
        time.monotonic() - began,
        demo.video,
    )
    show_table(summary, report.results, folder)
    enough = len(report.results) == demo.episodes and summary.success_rate >= demo.threshold
    return 0 if enough else 1


@dataclass
class _Report:
    """What came of a run, filled while it goes on, so that an interruption loses nothing."""

    results: list[EpisodeResult] = field(default_factory=list)
    live: Any = None
    faults: list[tuple[float, str, str]] = field(default_factory=list)


def _run_episodes(
    demo: DemoConfig,
    bringup: BringupConfig,
    folder: Path,
    group: Any,
    node: Any,
    report: _Report,
    began: float,
) -> None:
    from vla_ros.nodes.demo_client import DemoClient
    from vla_ros.nodes.stack import Stack

    stack = Stack(group, node)
    report.faults = stack.faults
    stack.start()
    client = DemoClient(node, stack.check, show_progress, bringup.record)
    report.live = client.status
    client.wait_until_ready()
    say(
        f"ready       {len(group.specs)} nodes in {time.monotonic() - began:.1f} s, "
        f"control thread: {client.priority}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}"
    )
    for i in range(demo.episodes):
        seed = demo.seed + i
        instruction = demo.instruction or instruction_for_seed(seed)
        say(f"episode {i + 1}/{demo.episodes}  seed {seed}  {instruction!r}")
        result = client.run_episode(i + 1, seed, instruction, folder, demo.max_duration_s)
        report.results.append(result)
        show_progress("", 0.0, 0.0)
        mark = "ok  " if result.success else "FAIL"
        say(f"  {mark} {result.elapsed_s:.1f} s  {result.outcome}: {result.reason}")
    client.spin(0.3)
    if demo.keep_alive:
        say("running on until Ctrl-C")
        while True:
            client.spin(0.5)
            stack.check()


def make_run_folder(root: Path) -> Path:
    """Create a folder for a run that starts now, and let ``latest`` in ``root`` point to it.

    Raises:
        ConfigError: if ``root`` cannot be written to.
    """
    utc = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    folder = default_run_folder(root, utc)
    try:
        folder.mkdir(parents=True)
        latest = root / "latest"
        if latest.is_symlink() or not latest.exists():
            latest.unlink(missing_ok=True)
            latest.symlink_to(folder.name)
    except OSError as error:
        raise ConfigError(f"cannot write to --out {root}: {error}") from error
    return folder.resolve()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
