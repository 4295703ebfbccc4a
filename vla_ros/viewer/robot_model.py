# SPDX-License-Identifier: Apache-2.0
"""The part of a URDF that a picture needs: links, joints, meshes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.geometry import quat_multiply, rotation_vector_to_quat

Array = NDArray[np.float64]

_MOVING = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, kw_only=True)
class VisualMesh:
    """A mesh file fixed to a link: ``position`` (3,) [m], ``quat_xyzw`` (4,) in the link frame."""

    path: Path
    position: Array
    quat_xyzw: Array


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link and the joint that connects it to its parent.

    Attributes:
        parent: name of the parent link, None for the root.
        joint: name of a moving joint, None for a fixed one.
        is_prismatic: the joint slides along ``axis`` instead of turning about it.
        position, quat_xyzw: pose of the link in its parent at joint position zero.
    """

    name: str
    parent: str | None
    joint: str | None
    is_prismatic: bool
    axis: Array
    position: Array
    quat_xyzw: Array
    meshes: tuple[VisualMesh, ...] = ()

    def pose_at(self, joint_position: float) -> tuple[Array, Array]:
        """Return position (3,) [m] and quaternion (4,) xyzw of the link in its parent frame."""
        if self.joint is None:
            return self.position, self.quat_xyzw
        if self.is_prismatic:
            shift = rotate(self.quat_xyzw, self.axis * joint_position)
            return self.position + shift, self.quat_xyzw
        turn = rotation_vector_to_quat(self.axis * joint_position)
        return self.position, quat_multiply(self.quat_xyzw, turn)


@dataclass(frozen=True, kw_only=True)
class RobotModel:
    """Links in an order in which every parent comes before its children."""

    links: tuple[Link, ...]

    def scene_path(self, link: Link) -> str:
        """Return the link's path in the scene tree, e.g. ``/robot/base/fr3_link0``."""
        by_name = {each.name: each for each in self.links}
        names = [link.name]
        while link.parent is not None:
            link = by_name[link.parent]
            names.append(link.name)
        return "/".join(["/robot", *reversed(names)])


def load_fr3() -> RobotModel:
    """Load the FR3 of the franky-sim wheel with its light collision meshes.

    Raises:
        ConfigError: if the wheel is not installed.
    """
    spec = find_spec("franky_sim")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the FR3 model needs the package franky-sim, which is not installed")
    assets = Path(spec.submodule_search_locations[0]) / "assets"
    fingers = [assets / "meshes" / f"finger_{i}_vis.obj" for i in (0, 1)]
    return load_urdf(
        assets / "fr3.urdf", replaced={"fr3_leftfinger": fingers, "fr3_rightfinger": fingers}
    )


def load_urdf(path: Path, replaced: dict[str, list[Path]] | None = None) -> RobotModel:
    """Read links, joints and collision meshes of a URDF file.

    Args:
        path: the URDF; mesh file names are relative to its folder.
        replaced: meshes to use for some links instead of the collision geometry.

    Raises:
        ConfigError: if the file cannot be read or has no single root.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f"cannot read URDF {path}: {error}") from error
    joints = {_attribute(j, "child", "link"): j for j in root.findall("joint")}
    elements = {str(e.get("name")): e for e in root.findall("link")}
    links: list[Link] = []
    waiting = dict(elements)
    while waiting:
        known = {link.name for link in links}
        ready = [
            name
            for name in waiting
            if name not in joints or _attribute(joints[name], "parent", "link") in known
        ]
        if not ready:
            raise ConfigError(f"{path}: links {sorted(waiting)} hang on no known parent")
        for name in ready:
            meshes = _meshes(waiting.pop(name), path.parent, (replaced or {}).get(name))
            links.append(_link(name, joints.get(name), meshes))
    return RobotModel(links=tuple(links))


def rotate(quat_xyzw: Array, vector: Array) -> Array:
    """Return a vector (3,) turned by a unit quaternion (4,)."""
    u, w = quat_xyzw[:3], float(quat_xyzw[3])
    turned = 2.0 * np.cross(u, np.cross(u, vector) + w * vector)
    return np.asarray(vector + turned, dtype=float)


def _link(name: str, joint: ElementTree.Element | None, meshes: tuple[VisualMesh, ...]) -> Link:
    if joint is None:
        position, quat = _origin(None)
        return Link(
            name=name,
            parent=None,
            joint=None,
            is_prismatic=False,
            axis=np.zeros(3),
            position=position,
            quat_xyzw=quat,
            meshes=meshes,
        )
    kind = joint.get("type", "fixed")
    axis = joint.find("axis")
    position, quat = _origin(joint.find("origin"))
    return Link(
        name=name,
        parent=_attribute(joint, "parent", "link"),
        joint=joint.get("name") if kind in _MOVING else None,
        is_prismatic=kind == "prismatic",
        axis=_vector(axis.get("xyz") if axis is not None else None, "1 0 0"),
        position=position,
        quat_xyzw=quat,
        meshes=meshes,
    )


def _meshes(
    link: ElementTree.Element, folder: Path, replaced: list[Path] | None
) -> tuple[VisualMesh, ...]:
    if replaced is not None:
        position, quat = _origin(None)
        return tuple(VisualMesh(path=p, position=position, quat_xyzw=quat) for p in replaced)
    found = []
    for collision in link.findall("collision"):
        mesh = collision.find("geometry/mesh")
        if mesh is not None:
            position, quat = _origin(collision.find("origin"))
            file = folder / str(mesh.get("filename"))
            found.append(VisualMesh(path=file, position=position, quat_xyzw=quat))
    return tuple(found)


def _origin(element: ElementTree.Element | None) -> tuple[Array, Array]:
    if element is None:
        return np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
    roll, pitch, yaw = _vector(element.get("rpy"), "0 0 0")
    quat = np.array([0.0, 0.0, 0.0, 1.0])
    for angle, axis in ((yaw, 2), (pitch, 1), (roll, 0)):
        step = np.zeros(4)
        step[axis], step[3] = math.sin(angle / 2), math.cos(angle / 2)
        quat = quat_multiply(quat, step)
    return _vector(element.get("xyz"), "0 0 0"), quat


def _vector(text: str | None, default: str) -> Array:
    return np.array([float(part) for part in (text or default).split()])


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    if found is None:
        raise ConfigError(f"URDF joint {element.get('name')} has no <{child}>")
    return str(found.get(name))
