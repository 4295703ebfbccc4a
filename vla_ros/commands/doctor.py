# SPDX-License-Identifier: Apache-2.0
"""``vla-ros doctor``: what this machine lacks, and how to get it."""

from __future__ import annotations

import argparse
import ctypes
import enum
import importlib
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vla_ros.commands.output import say
from vla_ros.errors import ConfigError
from vla_ros.policies.registry import CLASSICAL, LEARNED, policy_folder, verify_policy

HELP = "check what this machine lacks"

_OLDEST, _NEWEST = (3, 11), (3, 14)
_SHM = Path("/dev/shm")
_SHM_BYTES = 64 * 2**20  # two cameras, latents and the control host's rings, with room
_CORES = 2
_FIFO_PRIORITY = 50
_FIFO_REMEDY = (
    "for real robots: add '<user> - rtprio 95' and '<user> - memlock unlimited' to "
    "/etc/security/limits.conf and log in again"
)


class Level(enum.Enum):
    """How bad it is: only FAILED keeps the demo from running."""

    OK = "ok"
    WARNING = "warn"
    FAILED = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` says what to do about it."""

    name: str
    level: Level
    detail: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command: there are none."""


def run(namespace: argparse.Namespace) -> int:
    """Check everything and return 0, or 1 if something is missing that the demo needs."""
    findings = [check() for check in CHECKS]
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        say(f"{finding.level.value:<5} {finding.name:<{width}}  {finding.detail}")
        if finding.remedy and finding.level is not Level.OK:
            say(f"      {'':<{width}}  -> {finding.remedy}")
    return 1 if any(finding.level is Level.FAILED for finding in findings) else 0


def check_python() -> Finding:
    """Find out whether this interpreter is one that vla_ros supports."""
    fits = _OLDEST <= sys.version_info[:2] <= _NEWEST
    return Finding(
        "Python",
        Level.OK if fits else Level.FAILED,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "vla_ros needs Python 3.11 to 3.14: make PYTHON=python3.12 setup",
    )


def check_cores() -> Finding:
    """Count the processors this process may use."""
    cores = len(os.sched_getaffinity(0))
    level = Level.OK if cores >= _CORES else Level.WARNING
    return Finding("Processors", level, str(cores), f"expect skipped ticks below {_CORES}")


def check_compiler() -> Finding:
    """Look for a C++ compiler; only building needs it."""
    names = (os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++")
    path = next((p for p in (shutil.which(name) for name in names if name) if p), None)
    if path is None:
        return Finding("C++ compiler", Level.WARNING, "none", "sudo apt install g++")
    return Finding("C++ compiler", Level.OK, path)


def check_egl() -> Finding:
    """Look for the library with which the simulated cameras render."""
    remedy = "sudo apt install libegl1 libgl1-mesa-dri"
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        return Finding("EGL", Level.FAILED, str(error), remedy)
    return Finding("EGL", Level.OK, "libEGL.so.1")


def check_shared_memory() -> Finding:
    """Find out whether rings can be made."""
    remedy = "in a container: --shm-size=256m; else remove stale vla_ros.* files from /dev/shm"
    if not os.access(_SHM, os.W_OK):
        return Finding("Shared memory", Level.FAILED, f"{_SHM} is not writable", remedy)
    free = shutil.disk_usage(_SHM).free
    level = Level.OK if free >= _SHM_BYTES else Level.FAILED
    return Finding("Shared memory", level, f"{free / 2**20:.0f} MiB free in {_SHM}", remedy)


def check_fifo() -> Finding:
    """Try to give a thread real-time priority; without it the control loop misses some ticks."""
    problem: list[str] = []

    def attempt() -> None:
        # Of this thread only; it ends at once.
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))
        except OSError as error:
            problem.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if problem:
        return Finding("Real-time priority", Level.WARNING, problem[0], _FIFO_REMEDY)
    return Finding("Real-time priority", Level.OK, f"SCHED_FIFO {_FIFO_PRIORITY} is permitted")


def check_fr3_model() -> Finding:
    """Look for the model of the simulated arm."""
    from vla_ros.sim.assets import find_fr3_assets

    try:
        assets = find_fr3_assets()
    except ConfigError as error:
        return Finding("FR3 model", Level.FAILED, str(error), "make setup")
    return Finding("FR3 model", Level.OK, str(assets.mjcf.parent))


def check_learned_policy() -> Finding:
    """Look for the weights of the policy that the demo runs by default."""
    remedy = f"or run without it: vla-ros demo --policy {CLASSICAL}"
    try:
        verify_policy(LEARNED)
        folder = policy_folder(LEARNED)
    except ConfigError as error:
        return Finding("Learned policy", Level.FAILED, str(error), remedy)
    return Finding("Learned policy", Level.OK, str(folder))


def check_module(name: str, what: str) -> Finding:
    """Find out whether a module imports."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken binary raises whatever it likes
        return Finding(what, Level.FAILED, f"{type(error).__name__}: {error}", "make setup")
    version = getattr(module, "__version__", "")
    return Finding(what, Level.OK, version or str(getattr(module, "__file__", "")))


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_cores,
    check_compiler,
    check_egl,
    check_shared_memory,
    check_fifo,
    lambda: check_module("vla_ros_core", "Control core"),
    lambda: check_module("mujoco", "MuJoCo"),
    check_fr3_model,
    lambda: check_module("onnxruntime", "ONNX Runtime"),
    check_learned_policy,
    lambda: check_module("rclpy", "ROS 2"),
    lambda: check_module("vla_ros_msgs.msg", "Message types"),
)
