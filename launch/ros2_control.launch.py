# SPDX-License-Identifier: Apache-2.0
"""Controllers of vla_ros in a controller manager: ``ros2 launch vla_ros ros2_control.launch.py``.

Without arguments it brings up a mock arm. For a robot, start the robot's own driver, which has a
controller manager, and give ``manager:=false robot:=fr3`` to load our controllers into it.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import Command, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription, Substitution

CONFIG = PathJoinSubstitution([FindPackageShare("vla_ros"), "config", "ros2_control"])
MOCK_ARM = Path(__file__).resolve().parents[1] / "config" / "ros2_control" / "mock_arm.urdf"
ARGUMENTS = {
    "robot": ("mock", "file in config/ros2_control: mock, fr3 or ur5e"),
    "urdf": (str(MOCK_ARM), "URDF of the robot, with its ros2_control part"),
    "manager": ("true", "start a controller manager; false: the robot's driver has one"),
    "controller_manager": ("/controller_manager", "name of the controller manager"),
    "active": ("cartesian_impedance", "controller to activate"),
    "inactive": ("joint_impedance", "controller to load only"),
}


def generate_launch_description() -> LaunchDescription:
    """Start the manager if there is none, publish the URDF and load two controllers."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    # Joined by hand: before Kilted no part of a PathJoinSubstitution may be a list.
    settings = [CONFIG, "/", LaunchConfiguration("robot"), ".yaml"]
    manages = IfCondition(LaunchConfiguration("manager"))
    urdf = Command(["cat ", LaunchConfiguration("urdf")])
    description = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(urdf, value_type=str)}],
        condition=manages,
    )
    manager = Node(
        package="controller_manager",
        executable="ros2_control_node",
        parameters=[settings],
        output="screen",
        condition=manages,
    )
    return LaunchDescription(
        [
            *arguments,
            description,
            manager,
            _spawner(LaunchConfiguration("active"), settings),
            _spawner(LaunchConfiguration("inactive"), settings, "--inactive"),
        ]
    )


def _spawner(name: LaunchConfiguration, settings: list[Substitution | str], *options: str) -> Node:
    return Node(
        package="controller_manager",
        executable="spawner",
        arguments=[
            name,
            "--controller-manager",
            LaunchConfiguration("controller_manager"),
            "--param-file",
            settings,
            *options,
        ],
    )
