# SPDX-License-Identifier: Apache-2.0
"""The launch file starts exactly the nodes of the one list; launch_ros is stood in for."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vla_ros import bringup
from vla_ros.bringup import BringupConfig, nodes_for
from vla_ros.errors import ConfigError
from vla_ros.sim.prepare import SceneFiles

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "sim.launch.py"
SCENE = SceneFiles(Path("scene.mjb"), Path("scene.json"))
NAMES = {
    "launch": ("LaunchContext", "LaunchDescription"),
    "launch.actions": (
        *("DeclareLaunchArgument", "EmitEvent", "OpaqueFunction", "RegisterEventHandler"),
        *("SetEnvironmentVariable", "Shutdown"),
    ),
    "launch.event_handlers": ("OnProcessStart",),
    "launch.events": ("matches_action",),
    "launch.substitutions": ("LaunchConfiguration",),
    "launch_ros": (),
    "launch_ros.actions": ("LifecycleNode",),
    "launch_ros.event_handlers": ("OnStateTransition",),
    "launch_ros.events": (),
    "launch_ros.events.lifecycle": ("ChangeState",),
    "lifecycle_msgs": (),
    "lifecycle_msgs.msg": ("Transition",),
}


class Action:
    """Stands in for every class of launch: remembers what it was made of."""

    TRANSITION_CONFIGURE, TRANSITION_ACTIVATE = 1, 3

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for module_name, names in NAMES.items():
        module = ModuleType(module_name)
        for name in names:
            setattr(module, name, type(name, (Action,), {}))
        monkeypatch.setitem(sys.modules, module_name, module)
    spec = importlib.util.spec_from_file_location("sim_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "prepare", lambda folder, scene, robot: SCENE)
    monkeypatch.setattr(module, "default_run_folder", lambda root, utc: tmp_path)
    return module


def kind(action: Any) -> str:
    return type(action).__name__


def make_config(**settings: Any) -> BringupConfig:
    """What is tried is the launch file: it must not need the weights of the default policy."""
    return BringupConfig(policy="classical", **settings)


def defaults(launch_file: Any) -> dict[str, str]:
    actions = launch_file.generate_launch_description().args[0]
    declared = [a for a in actions if kind(a) == "DeclareLaunchArgument"]
    return {a.args[0]: a.kwargs["default_value"] for a in declared}


def lifecycle_nodes(launch_file: Any, **arguments: str) -> list[Any]:
    given = defaults(launch_file) | {"policy": "classical"} | arguments
    actions = launch_file.launch_nodes(given)
    return [a for a in actions if kind(a) == "LifecycleNode"]


def test_arguments_are_the_settings_of_the_bringup(launch_file: Any) -> None:
    settings = {f.name for f in fields(BringupConfig) if f.default is not MISSING}
    assert set(defaults(launch_file)) == settings | {"out"}


def test_learned_policy_is_the_default(launch_file: Any) -> None:
    assert defaults(launch_file)["policy"] == "pick-place"


def test_nodes_are_those_of_the_one_list(launch_file: Any) -> None:
    expected = nodes_for(make_config(), SCENE)
    launched = lifecycle_nodes(launch_file)
    assert [n.kwargs["executable"] for n in launched] == [spec.name for spec in expected]
    for node, spec in zip(launched, expected, strict=True):
        assert node.kwargs["package"] == bringup.PACKAGE
        assert node.kwargs["name"] == spec.name
        assert node.kwargs["parameters"] == [dict(spec.parameters)]
        assert node.kwargs["respawn"] == spec.respawn
        assert (node.kwargs["on_exit"] is None) == spec.respawn


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ({"viewer": "false"}, make_config(viewer=False)),
        ({"record": "False", "port": "9001"}, make_config(record=False, port=9001)),
        ({"residual": "node"}, make_config(residual="node")),
        ({"slow_latency_ms": "250.5"}, make_config(slow_latency_ms=250.5)),
        (
            {"slow_mode": "busy", "busy_threads": "2"},
            make_config(slow_mode="busy", busy_threads=2),
        ),
    ],
)
def test_arguments_reach_the_nodes(
    launch_file: Any, arguments: dict[str, str], config: BringupConfig
) -> None:
    launched = lifecycle_nodes(launch_file, **arguments)
    expected = {spec.name: dict(spec.parameters) for spec in nodes_for(config, SCENE)}
    assert {n.kwargs["name"]: n.kwargs["parameters"][0] for n in launched} == expected


@pytest.mark.parametrize(
    ("name", "text"), [("viewer", "perhaps"), ("port", "http"), ("slow_latency_ms", "-1")]
)
def test_argument_out_of_range_is_refused_by_name(launch_file: Any, name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name):
        lifecycle_nodes(launch_file, **{name: text})


def test_every_node_is_configured_when_it_starts_and_then_activated(launch_file: Any) -> None:
    actions = launch_file.launch_nodes(defaults(launch_file) | {"policy": "classical"})
    nodes = [a for a in actions if kind(a) == "LifecycleNode"]
    handlers = [a.args[0] for a in actions if kind(a) == "RegisterEventHandler"]
    for node in nodes:
        started = [h for h in handlers if h.kwargs.get("target_action") is node]
        reached = [h for h in handlers if h.kwargs.get("target_lifecycle_node") is node]
        assert [_transition(h.kwargs["on_start"]) for h in started] == [1]
        assert [_transition(h.kwargs["entities"]) for h in reached] == [3]
        assert reached[0].kwargs["goal_state"] == "inactive"


def _transition(events: list[Any]) -> int:
    event = SimpleNamespace(**events[0].kwargs).event
    return int(event.kwargs["transition_id"])
