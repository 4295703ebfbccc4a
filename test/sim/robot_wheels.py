# SPDX-License-Identifier: Apache-2.0
"""Robot models come in wheels: a test is skipped without the wheel, and fails if it is broken."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

import pytest

from vla_ros.embodiment.robot import RobotConfig, load_robot

# A name that is none of these is misspelt in a robot file: that must not pass for a missing wheel.
WHEELS = ("example-robot-data", "franky-sim")


def skip_without(wheel: str) -> None:
    """Skip the test if a wheel, ``name`` or ``name==version``, is not installed."""
    name = wheel.partition("==")[0]
    assert name in WHEELS
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs the wheel {name}")


def installed_robot(name: str) -> RobotConfig:
    """Return a robot of this package, or skip the test if the wheel with its model is missing."""
    robot = load_robot(name)
    if robot.model.wheel:
        skip_without(robot.model.wheel)
    return robot


def robots_folder() -> Path:
    """Return the folder of example-robot-data, or skip the test if that is not installed."""
    spec = importlib.util.find_spec("pinocchio")
    assert spec is not None
    assert spec.origin is not None
    for parent in Path(spec.origin).parents:
        folder = parent / "share/example-robot-data/robots"
        if folder.is_dir():
            return folder
    skip_without("example-robot-data")
    raise FileNotFoundError("example-robot-data is installed, but not beside Pinocchio")
