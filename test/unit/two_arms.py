# SPDX-License-Identifier: Apache-2.0
"""A made-up torso with two seven-joint arms on it, leaning and off the origin, as URDF."""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.control.arm import ArmDescription

SIDES = ("left", "right")
JOINTS = {side: tuple(f"{side}_joint{i}" for i in range(1, 8)) for side in SIDES}
TOOLS = {side: f"{side}_tool" for side in SIDES}
START_Q = (0.2, 0.6, 0.1, -1.2, 0.2, 0.9, 0.3)
LIMIT_NM = (120.0,) * 4 + (30.0,) * 3
_MOUNT = {"left": "0.05 0.2 0.4", "right": "0.05 -0.2 0.4"}
_LEAN = {"left": "-0.7 0.2 0.0", "right": "0.7 0.2 0.0"}
_INERTIAL = (
    '<inertial><origin xyz="0 0.01 0.06"/><mass value="{mass}"/>'
    '<inertia ixx="{i}" iyy="{i}" izz="{i}" ixy="0" ixz="0" iyz="0"/></inertial>'
)


def _link(name: str, mass: float) -> str:
    inertial = _INERTIAL.format(mass=mass, i=0.01 * mass) if mass else ""
    return f'<link name="{name}">{inertial}</link>'


def _arm(side: str) -> str:
    parts, parent = [], "torso"
    for i, name in enumerate(JOINTS[side]):
        child = f"{side}_link{i + 1}"
        origin = f'xyz="{_MOUNT[side]}" rpy="{_LEAN[side]}"' if i == 0 else 'xyz="0 0 0.15"'
        axis = "0 0 1" if i % 2 == 0 else "0 1 0"
        parts.append(
            f'<joint name="{name}" type="revolute"><parent link="{parent}"/>'
            f'<child link="{child}"/><origin {origin}/><axis xyz="{axis}"/>'
            '<limit lower="-2.8" upper="2.8" effort="120" velocity="3"/></joint>'
        )
        parts.append(_link(child, 2.0 - 0.2 * i))
        parent = child
    parts.append(
        f'<joint name="{side}_flange" type="fixed"><parent link="{parent}"/>'
        f'<child link="{TOOLS[side]}"/><origin xyz="0 0 0.1"/></joint>{_link(TOOLS[side], 0.3)}'
    )
    return "".join(parts)


def two_arm_urdf() -> str:
    """Return the URDF; its root is ``stand``, the base frame of the arms ``torso``."""
    compiler = '<mujoco><compiler fusestatic="false" discardvisual="true"/></mujoco>'
    waist = (
        '<joint name="waist" type="fixed"><parent link="stand"/><child link="torso"/>'
        '<origin xyz="0.3 -0.1 0.8" rpy="0.1 0.2 0.5"/></joint>'
    )
    links = _link("stand", 0.0) + _link("torso", 10.0)
    return f'<robot name="two_arms">{compiler}{links}{waist}{_arm("left")}{_arm("right")}</robot>'


def arm(side: str, base_frame: str = "torso", q: Sequence[float] = START_Q) -> ArmDescription:
    """Return one of the arms as the law knows it."""
    return ArmDescription(
        urdf_xml=two_arm_urdf(),
        joint_names=JOINTS[side],
        base_frame=base_frame,
        ee_frame=TOOLS[side],
        posture=q,
        torque_limit_nm=LIMIT_NM,
    )
