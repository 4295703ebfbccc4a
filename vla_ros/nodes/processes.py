# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of a bringup, restarts those that die, and leaves none behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vla_ros.bringup import NodeSpec
from vla_ros.errors import VlaRosError
from vla_ros.parent_process import PARENT_VARIABLE

_STOP_STEPS = ((signal.SIGINT, 4.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_DOMAINS = range(42, 100)
_SHM = Path("/dev/shm")


def take_domain() -> tuple[int, IO[str]]:
    """Return a DDS domain that no other run on this host uses, and the lock that keeps it.

    The caller's ROS_DOMAIN_ID is not used: a run must not meet a robot by accident.

    Raises:
        VlaRosError: if all are taken.
    """
    for domain in _DOMAINS:
        try:
            lock = (_SHM / f"vla_ros.domain{domain}.lock").open("a")
        except OSError:  # it belongs to another user, who may be using the domain
            continue
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        lock.close()
    raise VlaRosError(f"all {len(_DOMAINS)} domains are in use: stop another run first")


def run_environment(domain: int) -> dict[str, str]:
    """Return the variables that every process of a run needs."""
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        # Shared-memory ports of a process that was killed block those that come after it.
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
        "LP_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
    }


@dataclass
class _Child:
    spec: NodeSpec
    process: subprocess.Popen[bytes]
    restarts: int = 0


@dataclass
class ProcessGroup:
    """The processes of one run.

    Attributes:
        environment: variables added to this process's own.
        log_folder: one file per node.
    """

    specs: list[NodeSpec]
    environment: Mapping[str, str]
    log_folder: Path
    _children: dict[str, _Child] = field(default_factory=dict)

    def start(self) -> None:
        """Start everything at once."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        for spec in self.specs:
            self._children[spec.name] = _Child(spec, self._spawn(spec))

    def pid(self, name: str) -> int:
        """Return the process id of a node."""
        return self._children[name].process.pid

    def dead(self) -> list[NodeSpec]:
        """Return the nodes whose process has ended."""
        return [c.spec for c in self._children.values() if c.process.poll() is not None]

    def exit_text(self, name: str) -> str:
        """Say how a process ended, with the last line of its log."""
        code = self._children[name].process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return f"{how}; {self.last_log_line(name)}"

    def last_log_line(self, name: str) -> str:
        """Return the last line a node wrote."""
        path = self.log_folder / f"{name}.log"
        lines = [x for x in path.read_text(errors="replace").splitlines() if x.strip()]
        return lines[-1].strip() if lines else "its log is empty"

    def respawn(self, spec: NodeSpec) -> None:
        """Start a dead node again."""
        child = self._children[spec.name]
        child.process = self._spawn(spec)
        child.restarts += 1

    def stop(self) -> None:
        """End everything: ask, insist, kill."""
        for number, limit_s in _STOP_STEPS:
            running = [c for c in self._children.values() if c.process.poll() is None]
            for child in running:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)
                    # A frozen process hears nothing but SIGKILL until it goes on.
                    child.process.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + limit_s
            for child in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, deadline - time.monotonic()))

    def _spawn(self, spec: NodeSpec) -> subprocess.Popen[bytes]:
        command = [*_command(spec.name), "--ros-args"]
        for name, value in spec.parameters.items():
            command += ["-p", f"{name}:={_to_text(value)}"]
        log = (self.log_folder / f"{spec.name}.log").open("ab")
        environment = os.environ | dict(self.environment) | {PARENT_VARIABLE: str(os.getpid())}
        if spec.nice:
            command = ["nice", "-n", str(spec.nice), *command]
        # A group of its own: Ctrl-C reaches the parent, which ends the children in order. Not a
        # session of its own: Linux schedules sessions as equals (autogroup), and nice values would
        # mean nothing.
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )


def _command(name: str) -> list[str]:
    script = Path(sysconfig.get_path("scripts")) / name
    if script.exists():
        return [str(script)]
    return [sys.executable, "-m", "vla_ros.nodes", name]


def _to_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return str(list(value))
    # A text that YAML would read as a number or nothing must stay a text.
    return f"'{value}'" if isinstance(value, str) else str(value)


def remove_shared_memory(prefix: str) -> None:
    """Remove the shared memory of a run that has ended."""
    for path in _SHM.glob(f"{prefix}.*"):
        path.unlink(missing_ok=True)
