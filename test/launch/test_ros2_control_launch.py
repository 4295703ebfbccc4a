# SPDX-License-Identifier: Apache-2.0
"""The launch file of the plugins, by a real launch_ros: what it asks for can be made."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "ros2_control.launch.py"
PROGRAMS = {"robot_state_publisher", "ros2_control_node", "spawner"}

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        importlib.util.find_spec("launch_ros") is None,
        reason="needs launch_ros, which is not on PyPI: source a ROS 2 installation",
    ),
]


@pytest.fixture(scope="module")
def entities() -> list[Any]:
    spec = importlib.util.spec_from_file_location("ros2_control_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.generate_launch_description().entities)


def nodes(entities: list[Any]) -> list[Any]:
    from launch_ros.actions import Node

    return [e for e in entities if isinstance(e, Node)]


def test_every_program_is_asked_for(entities: list[Any]) -> None:
    assert {node.node_executable for node in nodes(entities)} == PROGRAMS


@pytest.mark.parametrize("manager", ["true", "false"])
def test_a_manager_is_started_only_if_the_robot_has_none(entities: list[Any], manager: str) -> None:
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations["manager"] = manager
    started = [n for n in nodes(entities) if n.condition is None or n.condition.evaluate(context)]
    programs = {node.node_executable for node in started}
    assert programs == (PROGRAMS if manager == "true" else {"spawner"})
