# SPDX-License-Identifier: Apache-2.0
"""Table, cubes and bowls of the simulated cell, and who may touch whom."""

from __future__ import annotations

import math

import mujoco

from vla_ros.policies.colors import COLOURS
from vla_ros.sim.scene_info import BowlGeometry

# (contype, conaffinity): two geoms touch if a type bit of one is in the affinity of the other.
# The robot does not touch itself, bowls touch neither the table nor each other: less to compute.
CONTACT_TABLE = (1, 0)
CONTACT_CUBE = (2, 1 | 2 | 4 | 8)
CONTACT_BOWL = (4, 8)
CONTACT_ROBOT = (8, 1)

BOWL_WALL_BOXES = 16
BOWL_MASS_KG = 0.6
BOWL_FRICTION_N = 4.0  # a bowl slides when pushed with more than this

_FRICTION = (0.9, 0.005, 0.0001)  # sliding [-], torsional [m], rolling [m]


def set_contact(geom: mujoco.MjsGeom, bits: tuple[int, int]) -> None:
    """Give a geom its contact bits and the friction of the cell."""
    geom.contype, geom.conaffinity = bits
    geom.condim = 3
    geom.friction = _FRICTION


def add_table(spec: mujoco.MjSpec) -> None:
    """Add the table (top at z = 0), the floor and the lights.

    What objects rest on is a plane: cheaper than a box, and nothing ever falls off the table.
    """
    world = spec.worldbody
    plane = world.add_geom(
        name="table_contact", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(1, 1, 0.1), group=3
    )
    set_contact(plane, CONTACT_TABLE)
    for name, position, half, shade in (
        ("table", (0.1, 0.0, -0.02), (0.85, 0.75, 0.02), (0.80, 0.79, 0.77, 1.0)),
        ("floor", (0.0, 0.0, -0.80), (6.0, 6.0, 0.02), (0.55, 0.57, 0.60, 1.0)),
    ):
        world.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=position,
            size=half,
            rgba=shade,
            contype=0,
            conaffinity=0,
        )
    world.add_light(
        name="ceiling",
        pos=(0.6, 0.6, 2.5),
        dir=(-0.15, -0.25, -1.0),
        castshadow=False,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        ambient=(0.0, 0.0, 0.0),
        diffuse=(0.38, 0.38, 0.38),
        specular=(0.0, 0.0, 0.0),
    )


def add_cube(
    spec: mujoco.MjSpec, colour: str, side_m: float, mass_kg: float, position: tuple[float, ...]
) -> None:
    """Add the free body ``cube_<colour>``."""
    body = spec.worldbody.add_body(name=f"cube_{colour}", pos=position)
    body.add_freejoint(name=f"cube_{colour}")
    half = side_m / 2
    geom = body.add_geom(
        name=f"cube_{colour}",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(half, half, half),
        mass=mass_kg,
        rgba=(*COLOURS[colour].rgb, 1.0),
    )
    set_contact(geom, CONTACT_CUBE)


def add_bowl(spec: mujoco.MjSpec, colour: str, size: BowlGeometry) -> None:
    """Add ``bowl_<colour>``: it slides on the table in x and y, with friction, and cannot tip.

    Two slides put its place into ``qpos``, so that a new layout needs no new model.
    """
    body = spec.worldbody.add_body(name=f"bowl_{colour}")
    for axis, direction in (("x", (1, 0, 0)), ("y", (0, 1, 0))):
        body.add_joint(
            name=f"bowl_{colour}_{axis}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=direction,
            damping=[20.0, 0, 0],
            frictionloss=BOWL_FRICTION_N,
        )
    rgba = (*COLOURS[colour].rgb, 1.0)
    floor_half = size.floor_thickness_m / 2
    floor = body.add_geom(
        name=f"bowl_{colour}_floor",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=(0, 0, floor_half),
        size=(size.outer_radius_m, floor_half, 0),
        rgba=rgba,
        mass=BOWL_MASS_KG,
    )
    set_contact(floor, CONTACT_BOWL)
    thickness = size.outer_radius_m - size.inner_radius_m
    middle = size.inner_radius_m + thickness / 2
    for i in range(BOWL_WALL_BOXES):
        angle = 2 * math.pi * i / BOWL_WALL_BOXES
        wall = body.add_geom(
            name=f"bowl_{colour}_wall{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(middle * math.cos(angle), middle * math.sin(angle), size.height_m / 2),
            quat=(math.cos(angle / 2), 0, 0, math.sin(angle / 2)),
            size=(
                thickness / 2,
                size.outer_radius_m * math.tan(math.pi / BOWL_WALL_BOXES),
                size.height_m / 2,
            ),
            rgba=rgba,
            mass=0.0,
        )
        set_contact(wall, CONTACT_BOWL)
