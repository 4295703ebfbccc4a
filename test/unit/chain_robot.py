# SPDX-License-Identifier: Apache-2.0
"""An arm of any number of joints, for tests that need no particular one."""

from __future__ import annotations

import vla_ros_core as core

_AXES = ("0 0 1", "0 1 0", "1 0 0")


def chain_urdf(n_joints: int) -> str:
    """Return links of 0.15 m, each joint turned about another axis than the last."""
    links = (
        f'<link name="link{i + 1}"><inertial><origin xyz="0 0.01 0.07"/><mass value="1.2"/>'
        '<inertia ixx="0.006" iyy="0.005" izz="0.004" ixy="0" ixz="0" iyz="0"/></inertial>'
        f'</link><joint name="joint{i + 1}" type="revolute"><parent link="link{i}"/>'
        f'<child link="link{i + 1}"/><origin xyz="0.02 0 0.15" rpy="0.1 0 0"/>'
        f'<axis xyz="{_AXES[i % 3]}"/>'
        '<limit lower="-2.8" upper="2.8" effort="80" velocity="2"/></joint>'
        for i in range(n_joints)
    )
    return f'<robot name="chain"><link name="link0"/>{"".join(links)}</robot>'


def chain_model(n_joints: int) -> core.RobotModel:
    """Return the model of that arm."""
    names = [f"joint{i + 1}" for i in range(n_joints)]
    return core.RobotModel(chain_urdf(n_joints), names, "link0", f"link{n_joints}", [])
