# SPDX-License-Identifier: Apache-2.0
"""Scenes of the contact tasks: the FR3 with a tool, and something stiff to touch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco

from vla_ros.sim.assets import find_fr3_assets
from vla_ros.sim.scene_robot import FINGER_JOINTS, load_fr3

TIP_SITE = "tool_tip"
WORK_BODY = "work"
TOOL_GEOM = "tool"

_SURFACE_GEOM = "surface"


@dataclass(frozen=True, kw_only=True)
class ContactScene:
    """What every contact scene has.

    Attributes:
        timestep_s: physics step [s]; the control period must be a multiple of it.
        friction_scale: factor on the joint friction of the model, as in the table-top scene.
        contact_time_s, contact_impedance: stiffness of a contact, see ``docs/contact-tasks.md``;
            the time constant [s] must be at least two steps.
        friction_time_s: time constant of friction [s]. MuJoCo lifts a sliding tool off a stiff
            surface by an acceleration of friction coefficient times speed times twice the rate of
            this constant, until it bounces; it must therefore be long.
        tool_length_m: from the TCP of the hand to the tip of the tool [m].
        tool_mass_kg: mass of the tool [kg], known to the controller.
        sliding_friction: between tool and work piece [-].
    """

    timestep_s: float = 0.0002
    friction_scale: float = 0.2
    contact_time_s: float = 0.0006
    contact_impedance: float = 0.3
    friction_time_s: float = 0.1
    tool_length_m: float = 0.06
    tool_mass_kg: float = 0.1
    sliding_friction: float = 0.2


@dataclass(frozen=True, kw_only=True)
class WipeScene(ContactScene):
    """A ball-ended tool over a surface.

    Attributes:
        tool_radius_m: radius of the ball [m].
        surface: "flat", or "curved": a cylinder about the x axis of ``curve_radius_m``.
    """

    tool_radius_m: float = 0.015
    surface: str = "flat"
    curve_radius_m: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PegScene(ContactScene):
    """A round peg and a hole whose wall is a regular polygon of boxes.

    A round peg in a polygon that is drawn about the hole's circle: an upright peg's axis may lie
    anywhere in a polygon of inner radius ``clearance / 2``, so its corners add only 2 % of it.

    Attributes:
        peg_radius_m: radius of the peg [m]; neither peg nor hole has a chamfer.
        clearance_m: diameter of the hole less that of the peg [m].
        hole_depth_m: the hole is open below [m].
    """

    tool_length_m: float = 0.05
    sliding_friction: float = 0.3
    friction_time_s: float = 0.02
    peg_radius_m: float = 0.010
    clearance_m: float = 0.0005
    hole_depth_m: float = 0.030
    wall_boxes: int = 16
    wall_width_m: float = 0.03


def build_wipe_scene(config: WipeScene) -> mujoco.MjModel:
    """Compile the wiping scene; the surface's highest point is the origin of the body ``work``."""
    spec = _load_arm(config)
    tool = _add_tool(spec, config)
    centre = config.tool_length_m - config.tool_radius_m
    ball = tool.add_geom(
        name=TOOL_GEOM,
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=(0, 0, centre),
        size=(config.tool_radius_m, 0, 0),
        rgba=(0.9, 0.75, 0.2, 1),
        mass=config.tool_mass_kg,
    )
    ball.contype = ball.conaffinity = 0
    _add_handle(tool, centre, 0.006)
    work = spec.worldbody.add_body(name=WORK_BODY)
    rgba = (0.45, 0.6, 0.75, 1)
    if config.surface == "flat":
        surface = work.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, 0, -0.02), size=(0.15, 0.2, 0.02), rgba=rgba
        )
    else:
        surface = work.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=(0, 0, -config.curve_radius_m),
            quat=(math.sqrt(0.5), 0, math.sqrt(0.5), 0),
            size=(config.curve_radius_m, 0.15, 0),
            rgba=rgba,
        )
    surface.name = _SURFACE_GEOM
    surface.contype = surface.conaffinity = 0
    _add_pair(spec, _SURFACE_GEOM, config)
    return spec.compile()


def build_peg_scene(config: PegScene) -> mujoco.MjModel:
    """Compile the peg scene; the origin of the body ``work`` is the centre of the hole's rim."""
    spec = _load_arm(config)
    tool = _add_tool(spec, config)
    half = config.tool_length_m / 2
    peg = tool.add_geom(
        name=TOOL_GEOM,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=(0, 0, half),
        size=(config.peg_radius_m, half, 0),
        rgba=(0.85, 0.55, 0.2, 1),
        mass=config.tool_mass_kg,
    )
    peg.contype = peg.conaffinity = 0
    work = spec.worldbody.add_body(name=WORK_BODY)
    inner = config.peg_radius_m + config.clearance_m / 2
    outer = inner + config.wall_width_m
    for i in range(config.wall_boxes):
        angle = 2 * math.pi * i / config.wall_boxes
        middle = (inner + outer) / 2
        wall = work.add_geom(
            name=f"wall{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(middle * math.cos(angle), middle * math.sin(angle), -config.hole_depth_m / 2),
            quat=(math.cos(angle / 2), 0, 0, math.sin(angle / 2)),
            size=(
                config.wall_width_m / 2,
                outer * math.tan(math.pi / config.wall_boxes),
                config.hole_depth_m / 2,
            ),
            rgba=(0.45, 0.6, 0.75, 1),
        )
        wall.contype = wall.conaffinity = 0
        _add_pair(spec, wall.name, config)
    return spec.compile()


def _load_arm(config: ContactScene) -> mujoco.MjSpec:
    """Return the arm with its fingers closed for good: the tool is fixed to the hand."""
    spec = load_fr3(
        find_fr3_assets(),
        friction_scale=config.friction_scale,
        gripper_force_n=1.0,
        detailed_visuals=False,
    )
    spec.delete(spec.actuator("gripper"))
    for part in (*spec.tendons, *spec.equalities):
        spec.delete(part)
    for name in FINGER_JOINTS:
        spec.delete(spec.joint(name))
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    option = spec.option
    option.timestep = config.timestep_s
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 1.0
    option.iterations = 50
    option.ls_iterations = 20
    option.tolerance = 1e-10
    # MuJoCo's own convex collision now and then reports 0.1 to 0.2 mm between a box and a cylinder
    # that barely touch (seen with 4.0.0 at its default tolerance); the older one does not.
    option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    _add_surroundings(spec)
    return spec


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    spec.stat.extent = 1.0
    spec.visual.map.znear = 0.01
    spec.visual.headlight.ambient = (0.45, 0.45, 0.45)
    spec.visual.headlight.diffuse = (0.45, 0.45, 0.45)
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.numslices = 200  # the curved surface is drawn as round as it is
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=(0.95, 0.96, 0.97),
        width=8,
        height=48,
    )
    floor = spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, size=(2, 2, 0.1), rgba=(0.85, 0.85, 0.83, 1)
    )
    floor.contype = floor.conaffinity = 0


def _add_tool(spec: mujoco.MjSpec, config: ContactScene) -> mujoco.MjsBody:
    """Add the tool's body with the force sensor at its foot and the site at its tip."""
    tool = spec.body("fr3_hand_tcp").add_body(name="tool")
    tool.add_site(name="wrist", size=(0.001, 0.001, 0.001), group=4)
    tool.add_site(
        name=TIP_SITE, pos=(0, 0, config.tool_length_m), size=(0.001, 0.001, 0.001), group=4
    )
    spec.add_sensor(
        name="force",
        type=mujoco.mjtSensor.mjSENS_FORCE,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname="wrist",
    )
    return tool


def _add_handle(tool: mujoco.MjsBody, length_m: float, radius_m: float) -> None:
    handle = tool.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=(0, 0, length_m / 2),
        size=(radius_m, length_m / 2, 0),
        rgba=(0.3, 0.3, 0.3, 1),
        mass=0.0,
    )
    handle.contype = handle.conaffinity = 0


def _add_pair(spec: mujoco.MjSpec, work_geom: str, config: ContactScene) -> None:
    """Let the tool touch one geom of the work piece."""
    pair = spec.add_pair(name=f"tool_{work_geom}", geomname1=TOOL_GEOM, geomname2=work_geom)
    pair.condim = 3
    pair.friction = (config.sliding_friction, config.sliding_friction, 0.0, 0.0, 0.0)
    pair.solref = (config.contact_time_s, 1.0)
    pair.solreffriction = (config.friction_time_s, 1.0)
    d = config.contact_impedance
    pair.solimp = (d, d, 0.0001, 0.5, 2.0)
