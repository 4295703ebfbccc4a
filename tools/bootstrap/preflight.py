# SPDX-License-Identifier: Apache-2.0
"""What the machine must have before anything is installed; each check names its remedy."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Mapping, Optional, Tuple

from bootstrap.problem import SetupError
from bootstrap.ros import WHEELS

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
NEEDED_BYTES = 4 * 1024**3

_CPP17_PROGRAM = """
#include <optional>
int main() { return std::optional<int>{0}.value(); }
"""


def check_python(version: Tuple[int, ...]) -> None:
    """Refuse interpreters for which the lock file has no wheels."""
    if not OLDEST_PYTHON <= tuple(version[:2]) <= NEWEST_PYTHON:
        raise SetupError(
            "Python %d.%d is not supported; vla_ros needs %d.%d to %d.%d."
            % (version[0], version[1], *OLDEST_PYTHON, *NEWEST_PYTHON),
            "Name another interpreter: make PYTHON=python3.12 ...",
        )


def check_platform(system: str, machine: str, ros: str) -> None:
    """Refuse platforms for which there are no ROS wheels."""
    if system != "Linux":
        raise SetupError(
            "%s is not supported; vla_ros runs on Linux." % system,
            "Use a Linux machine, virtual machine or container.",
        )
    if ros == WHEELS and machine not in ("x86_64", "AMD64"):
        raise SetupError(
            "ROS 2 from PyPI exists for x86_64 only, and this machine is %s." % machine,
            "Install ROS 2 (jazzy, kilted or lyrical) from packages.ros.org and source it first.",
        )


def check_disk(folder: Path, free_bytes: Optional[int] = None) -> None:
    """Refuse to start what would fill the disk."""
    free = shutil.disk_usage(str(folder)).free if free_bytes is None else free_bytes
    if free < NEEDED_BYTES:
        raise SetupError(
            "Only %.1f GB are free in %s; the set-up needs %d GB."
            % (free / 1024**3, folder, NEEDED_BYTES // 1024**3),
            "Free some disk space, or clone the repository to another disk.",
        )


def check_venv() -> None:
    """Debian and Ubuntu ship Python without the modules that make virtual environments."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            "This Python lacks the module %s." % " and ".join(missing),
            "sudo apt install python%d.%d-venv" % sys.version_info[:2],
        )


def find_compiler(environ: Mapping[str, str]) -> Optional[str]:
    """Path of the C++ compiler CMake would take, or None."""
    names = [environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    found = (shutil.which(name, path=environ.get("PATH")) for name in names if name)
    return next((path for path in found if path), None)


def check_compiler(environ: Mapping[str, str]) -> None:
    """The C++ core and the message types are compiled on this machine, as C++17."""
    compiler = find_compiler(environ)
    remedy = "sudo apt install g++"
    if compiler is None:
        raise SetupError("No C++ compiler was found.", remedy)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "check.cpp"
        source.write_text(_CPP17_PROGRAM, encoding="utf-8")
        command = [compiler, "-std=c++17", str(source), "-o", str(source.with_suffix(""))]
        done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        first = said[0] if said else "no message"
        raise SetupError("%s cannot compile a C++17 program (%s)." % (compiler, first), remedy)


def check_python_headers() -> None:
    """The compiled modules include Python.h."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise SetupError(
            "The C headers of this Python are missing (Python.h).",
            "sudo apt install python%d.%d-dev" % sys.version_info[:2],
        )


def check_egl() -> None:
    """The simulated cameras render through EGL, with Mesa where there is no graphics card."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        raise SetupError(
            "libEGL is missing; the simulated cameras need it.",
            "sudo apt install libegl1 libgl1-mesa-dri",
        ) from None


def check_machine(root: Path, ros: str) -> None:
    """Run every check.

    Raises:
        SetupError: For the first one that fails.
    """
    check_platform(platform.system(), platform.machine(), ros)
    check_python((sys.version_info.major, sys.version_info.minor))
    check_venv()
    check_compiler(os.environ)
    check_python_headers()
    check_egl()
    check_disk(root)
