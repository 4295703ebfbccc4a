# SPDX-License-Identifier: Apache-2.0
"""Brings .venv up to date: decides which stages are due and carries them out."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Callable, List, Sequence, Set

from bootstrap.core import build_core, core_inputs
from bootstrap.editable import editable_inputs, install_editable
from bootstrap.layout import Layout, command_environment
from bootstrap.messages import build_messages, message_inputs
from bootstrap.packages import make_environment, python_identity
from bootstrap.preflight import check_machine
from bootstrap.problem import SetupError
from bootstrap.ros import choose_ros
from bootstrap.shell import Shell
from bootstrap.stage import Progress, Stage, Stamps, hash_inputs, print_error, run_stage

# Raise the number of a stage when its result changes though none of its inputs does.
_RECIPES = {"environment": 1, "messages": 1, "core": 1, "vla_ros": 1}


def main(root: Path) -> int:
    """Set the project up.

    Args:
        root: The repository.

    Returns:
        The exit status: 0, 1 after a problem that was explained, 130 after Ctrl-C.
    """
    try:
        ros = choose_ros(os.environ, importlib.util.find_spec("rclpy") is not None)
        layout = Layout(root, ros)
        with _only_one_at_a_time(layout.build):
            _bring_up_to_date(layout)
    except SetupError as error:
        print_error("\n[set-up] %s\n[set-up] %s" % (error.problem, error.remedy))
        return 1
    except KeyboardInterrupt:
        print_error("\n[set-up] interrupted; the next call starts clean.")
        return 130
    return 0


def _only_one_at_a_time(build: Path) -> IO[str]:
    """Wait until no other set-up runs in this clone; held until the file is closed."""
    build.mkdir(exist_ok=True)
    stream = (build / "setup.lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print_error("[set-up] another set-up runs in this clone; waiting for it ...")
        fcntl.flock(stream, fcntl.LOCK_EX)
    return stream


def _bring_up_to_date(layout: Layout) -> None:
    stamps = Stamps(layout.venv / ".stamps")
    log = layout.build / "setup.log"
    shell = Shell(log, command_environment(layout, os.environ), layout.root)
    progress = Progress()
    due = [stage for stage in plan_stages(layout, shell, progress) if not stamps.is_done(stage)]
    if not due:
        return
    check_machine(layout.root, layout.ros)
    log.write_text("", encoding="utf-8")
    progress.announce("ROS 2: %s; log: %s" % (layout.ros, log))
    _clean_up_once()
    for group in _concurrent_groups(due):
        _run_group(group, stamps, shell, progress)
    progress.announce("done")


def plan_stages(layout: Layout, shell: Shell, progress: Progress) -> List[Stage]:
    """Every stage in order; each key covers those of the stages it builds on."""

    def stage(
        name: str,
        inputs: Sequence[Path],
        action: Callable[[], None],
        products: Sequence[Path],
        *facts: str,
    ) -> Stage:
        missing = [str(path) for path in inputs if not path.is_file()]
        if missing:
            raise SetupError(
                "The repository lacks %s." % ", ".join(missing), "git status shows why."
            )
        key = hash_inputs(layout.root, inputs, name, _RECIPES[name], *facts)
        return Stage(name, key, tuple(products), action)

    base = stage(
        "environment",
        [layout.bootstrap_lock, layout.lock],
        lambda: make_environment(layout, shell, progress),
        [layout.venv],
        *(python_identity(), str(layout.root), layout.ros),
    )
    return [
        base,
        stage(
            "messages",
            message_inputs(layout),
            lambda: progress.step("build messages", lambda: build_messages(layout, shell)),
            [layout.build / "messages"],
            base.key,
        ),
        stage(
            "core",
            core_inputs(layout),
            lambda: progress.step("build core", lambda: build_core(layout, shell)),
            [layout.build / "core"],
            base.key,
        ),
        stage(
            "vla_ros",
            editable_inputs(layout),
            lambda: progress.step("install vla_ros", lambda: install_editable(layout, shell)),
            [],
            base.key,
        ),
    ]


def _concurrent_groups(stages: Sequence[Stage]) -> List[List[Stage]]:
    """The environment first, then what is compiled, side by side, then the rest."""
    groups = (("environment",), ("messages", "core"), ("vla_ros",))
    return [[stage for stage in stages if stage.name in names] for names in groups]


def _run_group(stages: Sequence[Stage], stamps: Stamps, shell: Shell, progress: Progress) -> None:
    if not stages:
        return
    with ThreadPoolExecutor(max_workers=len(stages)) as pool:
        futures = {pool.submit(run_stage, stage, stamps) for stage in stages}
        try:
            finished = _wait(futures)
        except KeyboardInterrupt:
            shell.stop()
            raise
        if any(future.exception() for future in finished):
            shell.stop()
    for future in finished:
        future.result()


def _wait(futures: "Set[Future[None]]") -> "Set[Future[None]]":
    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    return finished


def _clean_up_once() -> None:
    """Let the first request to end start the clean-up, and none after it cut that short."""
    requests = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(signal_number: int, frame: object) -> None:
        for request in requests:
            signal.signal(request, signal.SIG_IGN)
        raise KeyboardInterrupt

    for request in requests:
        if signal.getsignal(request) is not signal.SIG_IGN:  # ignored under nohup: leave it so
            signal.signal(request, interrupt)
