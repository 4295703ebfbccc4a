# SPDX-License-Identifier: Apache-2.0
"""A bare arm in MuJoCo, from its URDF: torque motors, gravity, capsules to look at, no contacts.

Nothing but the joints that the robot file names can move: the rest of the model (fingers, legs, the
other arm) stands still at zero, as it does for the control law.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import mujoco
import numpy as np

from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import RobotConfig
from vla_ros.errors import ConfigError

# At the end-effector frame itself, whatever the mass of its link: pushing here pushes there.
END_EFFECTOR = "vla_ros_end_effector"

_CAPSULE_RADIUS_M = 0.03
_SHORTEST_CAPSULE_M = 0.02
_TIP_RADIUS_M = 0.01
_CONTACT_TIME_S = 0.004  # of a contact; not less than some physics steps of a millisecond
_COLOUR = (0.85, 0.86, 0.88, 1.0)


def build_arm(
    robot: RobotConfig, timestep_s: float, surface_z_m: float | None = None
) -> mujoco.MjModel:
    """Compile an arm that stands by itself, or over a level surface that its end effector touches.

    Joints are without friction and damping, so that what is measured on them is the control law's.

    Args:
        robot: what its file says.
        timestep_s: physics step [s]. The control host takes one step per tick, so this is its
            period.
        surface_z_m: height of the surface in the world [m]; None: nothing touches anything. A ball
            whose lowest point is the end effector touches it, and nothing else does.

    Raises:
        ConfigError: if the URDF is missing or MuJoCo refuses it.
    """
    arm = arm_of(robot)
    try:
        spec = mujoco.MjSpec.from_string(mechanism_of(arm.urdf_xml, robot.joint_names))
    except (ValueError, ET.ParseError) as error:
        raise ConfigError(f"MuJoCo cannot read the URDF of {robot.name}: {error}") from error
    spec.modelname = f"vla_ros_{robot.name}"
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    _add_motors(spec, robot)
    _add_end_effector(spec, robot)
    if surface_z_m is None:
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    else:
        _add_surface(spec, surface_z_m)
    _add_capsules(spec)
    try:
        return spec.compile()
    except ValueError as error:
        raise ConfigError(f"MuJoCo refuses the model of {robot.name}: {error}") from error


def home_qpos(model: mujoco.MjModel, robot: RobotConfig) -> list[float]:
    """Return the positions (nq,) of the model with the arm at home."""
    qpos = model.qpos0.copy()
    for name, q in zip(robot.joint_names, robot.home_q, strict=True):
        qpos[model.joint(name).qposadr[0]] = q
    return [float(value) for value in qpos]


def mechanism_of(urdf_xml: str, joint_names: tuple[str, ...]) -> str:
    """Return a URDF with masses and joints only, in which only the named joints move.

    Raises:
        ConfigError: if a joint is missing.
    """
    root = ET.fromstring(urdf_xml)
    joints = {joint.get("name"): joint for joint in root.findall("joint")}
    missing = [name for name in joint_names if name not in joints]
    if missing:
        raise ConfigError(f"joint {missing[0]!r} is not in the URDF")
    for child in list(root):
        if child.tag not in ("link", "joint"):
            root.remove(child)
    for link in root.findall("link"):
        _strip_link(link)
    for name, joint in joints.items():
        for tag in ("dynamics", "mimic", "safety_controller"):
            for element in joint.findall(tag):
                joint.remove(element)
        if name not in joint_names:
            joint.set("type", "fixed")
    options = ET.SubElement(ET.SubElement(root, "mujoco"), "compiler")
    # Every link keeps its body, so that frames can be found by their names.
    options.set("fusestatic", "false")
    return ET.tostring(root, encoding="unicode")


def _strip_link(link: ET.Element) -> None:
    for tag in ("visual", "collision"):
        for element in link.findall(tag):
            link.remove(element)
    for inertial in link.findall("inertial"):
        mass = inertial.find("mass")
        # MuJoCo refuses an inertia of zero, but not a link without one.
        if mass is not None and float(mass.get("value", "0")) == 0.0:
            link.remove(inertial)


def _add_motors(spec: mujoco.MjSpec, robot: RobotConfig) -> None:
    n = len(robot.joint_names)
    armature = robot.model.armature_kg_m2 or (0.0,) * n
    for name, limit, rotor in zip(
        robot.joint_names, robot.limits.tau_max_nm, armature, strict=True
    ):
        joint = spec.joint(name)
        joint.armature = rotor
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE  # the motor's own range says it
        motor = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrlrange=(-limit, limit)
        )
        motor.set_to_motor()


def _add_end_effector(spec: mujoco.MjSpec, robot: RobotConfig) -> None:
    link = spec.body(robot.ee_frame)
    if link is None:
        raise ConfigError(f"ee_frame {robot.ee_frame!r} is not a link of the URDF")
    body = link.add_body(name=END_EFFECTOR)
    body.add_site(name=END_EFFECTOR, size=(0.001, 0.001, 0.001), group=4)
    if robot.payload is None:
        return
    load = link.add_body(name="payload")
    load.explicitinertial = True
    load.mass = robot.payload.mass_kg
    load.ipos = robot.payload.com_m
    load.fullinertia = robot.payload.inertia_kg_m2


def _add_surface(spec: mujoco.MjSpec, height_m: float) -> None:
    ball = spec.body(END_EFFECTOR).add_geom(
        name="tip",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=(0.0, 0.0, -_TIP_RADIUS_M),
        size=(_TIP_RADIUS_M, 0.0, 0.0),
        mass=0.0,
    )
    box = spec.worldbody.add_geom(
        name="surface",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(0.5, 0.0, height_m - 0.05),
        size=(0.3, 0.5, 0.05),
    )
    for geom in (ball, box):
        geom.contype = geom.conaffinity = 0
    spec.add_pair(
        geomname1="tip",
        geomname2="surface",
        condim=3,
        friction=(0.2, 0.2, 0.005, 0.0001, 0.0001),
        solref=(_CONTACT_TIME_S, 1.0),
    )


def _add_capsules(spec: mujoco.MjSpec) -> None:
    """Draw every link as a bar to the next one; nothing touches anything."""
    for body in list(spec.bodies):
        end = np.array(body.pos)
        if body.parent is None or np.linalg.norm(end) < _SHORTEST_CAPSULE_M:
            continue
        body.parent.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=(0.0, 0.0, 0.0, *end),
            size=(_CAPSULE_RADIUS_M, 0.0, 0.0),
            rgba=_COLOUR,
            mass=0.0,
            group=2,
            contype=0,
            conaffinity=0,
        )
