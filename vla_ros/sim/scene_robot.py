# SPDX-License-Identifier: Apache-2.0
"""The FR3 of the simulated cell: torque motors, a gripper told its width, cheap contacts."""

from __future__ import annotations

import mujoco

from vla_ros.sim.assets import Fr3Assets
from vla_ros.sim.scene_objects import CONTACT_ROBOT, set_contact

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
TORQUE_LIMITS_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
TCP_IN_HAND_M = 0.1034

# Speed of a finger is about force / damping = 30 N / 300 N·s/m = 0.1 m/s, as of the real hand.
FINGER_DAMPING = 300.0
GRIPPER_STIFFNESS = 4000.0  # [N/m]; 10 mm short of the target already means full force

_WHITE = (0.92, 0.92, 0.93, 1.0)
_GREY = (0.62, 0.63, 0.65, 1.0)
_DARK = (0.25, 0.25, 0.27, 1.0)


def load_fr3(
    assets: Fr3Assets, *, friction_scale: float, gripper_force_n: float, detailed_visuals: bool
) -> mujoco.MjSpec:
    """Return the arm as a specification, ready for objects to be added."""
    spec = mujoco.MjSpec.from_file(str(assets.mjcf))
    spec.meshdir = str(assets.meshes)
    for key in list(spec.keys):
        spec.delete(key)
    for actuator in list(spec.actuators):
        spec.delete(actuator)
    for name in ARM_JOINTS:
        spec.joint(name).frictionloss *= friction_scale
    _rebuild_geoms(spec, detailed_visuals)
    _add_motors(spec)
    _add_gripper(spec, gripper_force_n)
    hand = spec.body("hand")
    tcp = hand.add_body(name="fr3_hand_tcp", pos=(0, 0, TCP_IN_HAND_M))
    tcp.add_site(name="fr3_hand_tcp", size=(0.001, 0.001, 0.001), group=4)
    return spec


def _add_motors(spec: mujoco.MjSpec) -> None:
    for name, limit in zip(ARM_JOINTS, TORQUE_LIMITS_NM, strict=True):
        motor = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrlrange=(-limit, limit)
        )
        motor.set_to_motor()


def _add_gripper(spec: mujoco.MjSpec, force_n: float) -> None:
    """Replace the tendon and actuator of the hand, so that control and length are the width [m]."""
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    width = spec.add_tendon(name="gripper_width")
    for name in FINGER_JOINTS:
        joint = spec.joint(name)
        joint.damping[0] = FINGER_DAMPING
        joint.frictionloss = 0.0
        width.wrap_joint(name, 1.0)
    gripper = spec.add_actuator(
        name="gripper",
        target="gripper_width",
        trntype=mujoco.mjtTrn.mjTRN_TENDON,
        ctrlrange=(0.0, 0.08),
        forcerange=(-force_n, force_n),
    )
    gripper.set_to_position(kp=GRIPPER_STIFFNESS)


def _rebuild_geoms(spec: mujoco.MjSpec, detailed_visuals: bool) -> None:
    """Keep one set of meshes to look at; collide only with boxes of hand and fingers."""
    for geom in list(spec.geoms):
        is_visual_mesh = geom.meshname and not geom.meshname.endswith("_coll") and geom.group == 2
        keep = detailed_visuals if is_visual_mesh else geom.meshname.endswith("_coll")
        if is_visual_mesh and geom.meshname in ("finger_0", "finger_1"):
            keep = True
        if is_visual_mesh and keep:
            continue
        if keep and not detailed_visuals:
            _show(geom)
        else:
            spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)
    hand = spec.body("hand")
    _add_contact_box(hand, "hand_contact", (0.0, 0.0, 0.02), (0.028, 0.1, 0.045))
    for side in ("left", "right"):
        finger = spec.body(f"{side}_finger")
        _add_contact_box(
            finger, f"{side}_finger_contact", (0.0, 0.0155, 0.018), (0.0095, 0.0105, 0.017)
        )
        pad = _add_contact_box(
            finger, f"{side}_pad_contact", (0.0, 0.00475, 0.0445), (0.0085, 0.00475, 0.0090)
        )
        pad.priority = 1  # what the pads say about a contact counts, not the average
        pad.condim = 4  # a held cube must not spin between the pads
        pad.friction = (1.2, 0.02, 0.0001)
        pad.solref = (0.004, 1.0)
        pad.solimp = (0.97, 0.995, 0.0005, 0.5, 2.0)


def _show(geom: mujoco.MjsGeom) -> None:
    """Turn a collision mesh into something to look at."""
    dark = geom.meshname in ("link7_coll",)
    geom.group = 2
    geom.contype = geom.conaffinity = 0
    geom.rgba = _DARK if dark else (_GREY if geom.meshname == "hand_coll" else _WHITE)


def _add_contact_box(
    body: mujoco.MjsBody, name: str, position: tuple[float, ...], half: tuple[float, ...]
) -> mujoco.MjsGeom:
    geom = body.add_geom(
        name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=half, mass=0.0, group=3
    )
    set_contact(geom, CONTACT_ROBOT)
    return geom
