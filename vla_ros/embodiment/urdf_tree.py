# SPDX-License-Identifier: Apache-2.0
"""Transforms between the links of a URDF, as robot_state_publisher would publish them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.geometry import (
    quat_multiply,
    quat_xyzw_to_matrix,
    rotation_vector_to_quat,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinkTransform:
    """Pose of ``child`` in ``parent``: position (3,) [m], quaternion (4,) xyzw."""

    parent: str
    child: str
    position: Array
    quat_xyzw: Array


@dataclass(frozen=True)
class _Joint:
    name: str
    kind: str
    parent: str
    child: str
    position: Array
    quat_xyzw: Array
    axis: Array


class UrdfTree:
    """The joints of a URDF and where they put their child links.

    Raises:
        ConfigError: if the text is not a URDF.
    """

    def __init__(self, urdf_xml: str) -> None:
        try:
            root = ET.fromstring(urdf_xml)
        except ET.ParseError as error:
            raise ConfigError(f"cannot read the URDF: {error}") from error
        joints = [_read_joint(element) for element in root.findall("joint")]
        self._fixed = [j for j in joints if j.kind == "fixed"]
        self._moving = [j for j in joints if j.kind != "fixed"]

    @property
    def root(self) -> str:
        """Name of the link that is nobody's child."""
        children = {joint.child for joint in self._fixed + self._moving}
        return next(j.parent for j in self._fixed + self._moving if j.parent not in children)

    @property
    def moving_joints(self) -> tuple[str, ...]:
        """Names of the joints that move, in the order of the file."""
        return tuple(joint.name for joint in self._moving)

    def fixed_transforms(self) -> list[LinkTransform]:
        """Return the transforms that never change."""
        return [LinkTransform(j.parent, j.child, j.position, j.quat_xyzw) for j in self._fixed]

    def moving_transforms(self, positions: Mapping[str, float]) -> list[LinkTransform]:
        """Return the transforms of the moving joints that ``positions`` [rad, m] names."""
        return [_move(j, positions[j.name]) for j in self._moving if j.name in positions]


def _move(joint: _Joint, value: float) -> LinkTransform:
    if joint.kind == "prismatic":
        offset = quat_xyzw_to_matrix(joint.quat_xyzw) @ (joint.axis * value)
        return LinkTransform(joint.parent, joint.child, joint.position + offset, joint.quat_xyzw)
    turned = quat_multiply(joint.quat_xyzw, rotation_vector_to_quat(joint.axis * value))
    return LinkTransform(joint.parent, joint.child, joint.position, turned)


def _read_joint(element: ET.Element) -> _Joint:
    parent, child = element.find("parent"), element.find("child")
    if parent is None or child is None:
        raise ConfigError(f"joint {element.get('name')!r} of the URDF lacks parent or child")
    origin, axis = element.find("origin"), element.find("axis")
    rpy = _vector(origin, "rpy", "0 0 0")
    return _Joint(
        name=element.get("name", ""),
        kind=element.get("type", "fixed"),
        parent=parent.get("link", ""),
        child=child.get("link", ""),
        position=_vector(origin, "xyz", "0 0 0"),
        quat_xyzw=_quat_from_rpy(rpy),
        axis=_vector(axis, "xyz", "1 0 0"),
    )


def _vector(element: ET.Element | None, name: str, default: str) -> Array:
    text = default if element is None else element.get(name, default)
    return np.array([float(part) for part in text.split()])


def _quat_from_rpy(rpy: Array) -> Array:
    turns = [
        rotation_vector_to_quat(axis * angle) for axis, angle in zip(np.eye(3), rpy, strict=True)
    ]
    return quat_multiply(turns[2], quat_multiply(turns[1], turns[0]))
