# SPDX-License-Identifier: Apache-2.0
"""Which ROS 2 the project is set up against: the one that is sourced, or the wheels from PyPI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Mapping, Tuple

from bootstrap.problem import SetupError

SUPPORTED_DISTROS = ("jazzy", "kilted", "lyrical", "rolling")
WHEELS = "wheels"


def choose_ros(environ: Mapping[str, str], rclpy_found: bool) -> str:
    """Choose the ROS 2 to set up against.

    Args:
        environ: Environment variables of the caller.
        rclpy_found: Whether the running interpreter can import rclpy.

    Returns:
        The name of the sourced distribution, or WHEELS when none is sourced.

    Raises:
        SetupError: A distribution is sourced that the project does not support, or whose rclpy
            this interpreter cannot import. The wheels are no way out then: the libraries of the
            sourced one would be found before theirs.
    """
    distro = environ.get("ROS_DISTRO", "")
    if not distro:
        return WHEELS
    if distro not in SUPPORTED_DISTROS:
        raise SetupError(
            "ROS 2 %s is sourced; vla_ros supports %s." % (distro, ", ".join(SUPPORTED_DISTROS)),
            "Source one of those, or open a shell with no ROS sourced: "
            "the set-up then installs ROS 2 from PyPI into .venv.",
        )
    if not rclpy_found:
        raise SetupError(
            "ROS 2 %s is sourced, but this Python cannot import its rclpy." % distro,
            "Use the interpreter that ROS was built for (make PYTHON=/usr/bin/python3 ...) and "
            "install ros-%s-rclpy, or open a shell with no ROS sourced." % distro,
        )
    return distro


def relocate_wheels(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Point the CMake files of the ROS wheels to this machine's headers.

    They carry the paths of the machine that built them, and CMake refuses folders that do not
    exist. Doing it twice changes nothing.

    Args:
        prefix: The virtual environment.
        python_include: Folder of Python.h.
        numpy_include: Folder that NumPy's get_include() names.

    Returns:
        The number of files changed.
    """
    replacements = (
        (re.compile(r'/opt/python/[^;"\s]*/numpy/_?core/include'), numpy_include),
        (re.compile(r'/opt/python/[^;"\s]*/include/python3\.\d+t?'), python_include),
    )
    changed = 0
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        before = path.read_text(encoding="utf-8")
        after = _substitute(before, replacements)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed += 1
    return changed


def _substitute(text: str, replacements: Tuple[Tuple["re.Pattern[str]", str], ...]) -> str:
    if "/opt/python/" in text:
        for pattern, folder in replacements:
            text = pattern.sub(lambda _, folder=folder: folder, text)  # type: ignore[misc]
    return text


def has_package(environ: Mapping[str, str], name: str) -> bool:
    """Whether one of the sourced prefixes holds the ROS package."""
    prefixes = environ.get("AMENT_PREFIX_PATH", "").split(":")
    return any(prefix and (Path(prefix) / "share" / name).is_dir() for prefix in prefixes)
