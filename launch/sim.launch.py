# SPDX-License-Identifier: Apache-2.0
"""The whole stack in simulation: ``ros2 launch vla_ros sim.launch.py slow_latency_ms:=300``.

The nodes are those of ``vla_ros.bringup.nodes_for``, the list that ``vla-ros demo`` starts, too.
Arguments are the settings of ``BringupConfig``; give the task with the action ``execute_task``.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription
from vla_ros.bringup import PACKAGE, BringupConfig, NodeSpec, default_run_folder, nodes_for
from vla_ros.errors import ConfigError
from vla_ros.sim.prepare import prepare

# As in vla-ros demo: rendering without a display and on one core, for the control loop needs one.
ENVIRONMENT = {"MUJOCO_GL": "egl", "LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
RESPAWN_DELAY_S = 0.5
SETTINGS = tuple(f for f in fields(BringupConfig) if f.default is not MISSING)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes follow when their values are known."""
    arguments = [
        DeclareLaunchArgument(f.name, default_value=_to_text(f.default), description=_describe(f))
        for f in SETTINGS
    ]
    out = DeclareLaunchArgument("out", default_value="runs", description="folder for the scene")
    environment = [SetEnvironmentVariable(name, value) for name, value in ENVIRONMENT.items()]
    return LaunchDescription([*arguments, out, *environment, OpaqueFunction(function=launch_nodes)])


def launch_nodes(context: LaunchContext) -> list[Any]:
    """Compile the scene and return the actions that start every node and make it active."""
    values = {f.name: _value(context, f) for f in SETTINGS}
    config = BringupConfig(**values)
    out = Path(LaunchConfiguration("out").perform(context))
    folder = default_run_folder(out, datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"))
    scene = prepare(folder / "scene", config.scene, config.robot)
    return [action for spec in nodes_for(config, scene) for action in _start(spec)]


def _start(spec: NodeSpec) -> list[Any]:
    node = LifecycleNode(
        package=PACKAGE,
        executable=spec.name,
        name=spec.name,
        namespace="",
        parameters=[dict(spec.parameters)],
        prefix=f"nice -n {spec.nice}" if spec.nice else None,
        output="screen",
        respawn=spec.respawn,
        respawn_delay=RESPAWN_DELAY_S if spec.respawn else None,
        on_exit=None if spec.respawn else Shutdown(reason=f"{spec.name} ended"),
    )
    # A node that was started again passes through both transitions again.
    configure = RegisterEventHandler(
        OnProcessStart(
            target_action=node, on_start=[_change(node, Transition.TRANSITION_CONFIGURE)]
        )
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(node, Transition.TRANSITION_ACTIVATE)],
        )
    )
    return [activate, configure, node]


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    matcher = matches_action(node)
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition))


def _value(context: LaunchContext, setting: Any) -> Any:
    text = LaunchConfiguration(setting.name).perform(context)
    kind = type(setting.default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{setting.name} must be {kind.__name__}, got {text!r}") from error


def _to_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _describe(setting: Any) -> str:
    unit = f" [{setting.metadata['unit']}]" if setting.metadata["unit"] else ""
    choices = ", ".join(setting.metadata["choices"])
    return setting.metadata["description"] + unit + (f" ({choices})" if choices else "")
