# SPDX-License-Identifier: Apache-2.0
"""Settings common to all tests: no network outside this machine, and skips for what is missing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# Tests of two users, or two runs, on one machine must not hear each other.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# Off-screen rendering; one thread of Mesa's rasteriser, or it would take every core from the rest.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

_WEIGHTS = Path(__file__).resolve().parents[1] / "models" / "pick-place" / "manifest.yaml"
_NEEDED_MODULES = {"ros": ("rclpy", "vla_ros_msgs"), "sim": ("mujoco",)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason shown, the tests whose marker names something that is missing."""
    for marker, modules in _NEEDED_MODULES.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            _skip(items, marker, f"needs {' and '.join(missing)}")
    if not _WEIGHTS.exists():
        _skip(items, "weights", f"needs {_WEIGHTS.parent}: see docs/learned-policy.md")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
