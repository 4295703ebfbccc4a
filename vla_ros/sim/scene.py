# SPDX-License-Identifier: Apache-2.0
"""The simulated cell: FR3 with hand, table, cubes, bowls and cameras, compiled with MuJoCo.

See ``docs/simulation.md`` for what was simplified and why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.perception.camera_config import FR3_CAMERAS, CameraConfig
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.sim.assets import find_fr3_assets
from vla_ros.sim.scene_info import BowlGeometry, SceneInfo
from vla_ros.sim.scene_objects import add_bowl, add_cube, add_table
from vla_ros.sim.scene_robot import ARM_JOINTS, FINGER_JOINTS, load_fr3

HOME_Q = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)
GRIPPER_MAX_WIDTH_M = 0.08
TCP_BODY = "fr3_hand_tcp"


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What to build.

    Attributes:
        timestep_s: physics step [s], 0.0002 to 0.002.
        friction_scale: factor 0..1 on the model's joint friction. The torque interface of a real
            FR3 compensates most of its friction inside; what is left is about a fifth.
        cube_side_m, cube_mass_kg: size [m] and mass [kg] of the cubes.
        gripper_force_n: largest force of each finger [N].
        detailed_visuals: draw the 242,000-face visual meshes, not the collision meshes.
    """

    timestep_s: float = 0.001
    friction_scale: float = 0.2
    cube_side_m: float = 0.04
    cube_mass_kg: float = 0.05
    bowl: BowlGeometry = field(default_factory=BowlGeometry)
    gripper_force_n: float = 30.0
    detailed_visuals: bool = False
    cameras: tuple[CameraConfig, ...] = FR3_CAMERAS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("timestep_s", 0.0002, 0.002),
            ("friction_scale", 0.0, 1.0),
            ("cube_side_m", 0.02, 0.06),
            ("cube_mass_kg", 0.005, 1.0),
            ("gripper_force_n", 1.0, 70.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be {low}..{high}, got {value}")
        if len({camera.name for camera in self.cameras}) != len(self.cameras):
            raise ConfigError("camera names must differ")


def build_scene(config: SceneConfig | None = None) -> mujoco.MjModel:
    """Compile the cell.

    Actuators are the seven torque motors ``fr3_joint1..7`` [N·m] and ``gripper``, whose control is
    the opening between the fingers [m].

    Raises:
        ConfigError: if the FR3 model files are missing.
    """
    config = config or SceneConfig()
    spec = load_fr3(
        find_fr3_assets(),
        friction_scale=config.friction_scale,
        gripper_force_n=config.gripper_force_n,
        detailed_visuals=config.detailed_visuals,
    )
    spec.modelname = "vla_ros_fr3"
    _set_options(spec, config)
    add_table(spec)
    for i, colour in enumerate(CUBE_COLOURS):
        position = (0.42, 0.12 * (i - 1.5), config.cube_side_m / 2)
        add_cube(spec, colour, config.cube_side_m, config.cube_mass_kg, position)
    for colour in BOWL_COLOURS:
        add_bowl(spec, colour, config.bowl)
    for camera in config.cameras:
        _add_camera(spec, camera)
    return spec.compile()


def describe_scene(model: mujoco.MjModel, config: SceneConfig | None = None) -> SceneInfo:
    """Return the metadata of a model made by ``build_scene`` from the same configuration."""
    config = config or SceneConfig()
    joints = {model.joint(i).name: model.joint(i) for i in range(model.njnt)}
    qpos = {name: int(joint.qposadr[0]) for name, joint in joints.items()}
    dof = {name: int(joint.dofadr[0]) for name, joint in joints.items()}
    return SceneInfo(
        nq=model.nq,
        nv=model.nv,
        timestep_s=model.opt.timestep,
        arm_qpos=tuple(qpos[name] for name in ARM_JOINTS),
        arm_dof=tuple(dof[name] for name in ARM_JOINTS),
        arm_links=tuple(_link(model, int(joints[name].bodyid[0])) for name in ARM_JOINTS),
        tcp_link=_tcp_link(model, int(joints[ARM_JOINTS[-1]].bodyid[0])),
        finger_qpos=tuple(qpos[name] for name in FINGER_JOINTS),
        finger_dof=tuple(dof[name] for name in FINGER_JOINTS),
        cube_qpos={colour: qpos[f"cube_{colour}"] for colour in CUBE_COLOURS},
        cube_dof={colour: dof[f"cube_{colour}"] for colour in CUBE_COLOURS},
        bowl_qpos={c: (qpos[f"bowl_{c}_x"], qpos[f"bowl_{c}_y"]) for c in BOWL_COLOURS},
        bowl_dof={c: (dof[f"bowl_{c}_x"], dof[f"bowl_{c}_y"]) for c in BOWL_COLOURS},
        arm_actuators=tuple(int(model.actuator(name).id) for name in ARM_JOINTS),
        gripper_actuator=int(model.actuator("gripper").id),
        home_qpos=_home_qpos(model, qpos),
        cube_side_m=config.cube_side_m,
        bowl=config.bowl,
        gripper_max_width_m=GRIPPER_MAX_WIDTH_M,
        cameras=tuple(camera.name for camera in config.cameras),
    )


def save_model(model: mujoco.MjModel, path: Path) -> None:
    """Write the compiled model (.mjb): readable only by the same MuJoCo version."""
    mujoco.mj_saveModel(model, str(path), None)


def load_model(path: Path) -> mujoco.MjModel:
    """Read a compiled model written by ``save_model``.

    Raises:
        ConfigError: if the file is missing or of another MuJoCo version.
    """
    if not path.is_file():
        raise ConfigError(f"model file not found: {path}")
    try:
        return mujoco.MjModel.from_binary_path(str(path))
    except ValueError as error:
        raise ConfigError(f"cannot load {path}: {error}; build the scene again") from error


def _set_options(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    spec.option.timestep = config.timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0  # grasped objects creep without it
    spec.option.iterations = 20
    spec.option.ls_iterations = 20
    quality = spec.visual.quality
    quality.offsamples = 0  # edge pixels keep a depth and a colour that belong together
    quality.shadowsize = 0
    spec.visual.headlight.ambient = (0.45, 0.45, 0.45)
    spec.visual.headlight.diffuse = (0.25, 0.25, 0.25)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.stat.extent = 1.0
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 10.0
    widest = max((camera.width for camera in config.cameras), default=224)
    tallest = max((camera.height for camera in config.cameras), default=224)
    getattr(spec.visual, "global").offwidth = widest
    getattr(spec.visual, "global").offheight = tallest


def _add_camera(spec: mujoco.MjSpec, camera: CameraConfig) -> None:
    position, target = np.array(camera.position_m), np.array(camera.look_at_m)
    back = (position - target) / np.linalg.norm(position - target)  # MuJoCo looks along -z
    right = np.cross(np.array(camera.up), back)
    if np.linalg.norm(right) < 1e-6:
        raise ConfigError(f"{camera.name}: up {camera.up} must not be parallel to the view axis")
    right /= np.linalg.norm(right)
    R = np.column_stack([right, np.cross(back, right), back])
    quat_wxyz = np.empty(4)
    mujoco.mju_mat2Quat(quat_wxyz, R.flatten())
    body = spec.body(camera.parent)
    if body is None:
        raise ConfigError(f"{camera.name}: parent body {camera.parent!r} does not exist")
    body.add_camera(
        name=camera.name,
        pos=position,
        quat=quat_wxyz,
        fovy=camera.fovy_deg,
        resolution=[camera.width, camera.height],
    )


def _link(model: mujoco.MjModel, body: int) -> tuple[float, ...]:
    """Return the transform from the previous joint's body (or base) to this body."""
    return _pose_tuple(model.body_pos[body], model.body_quat[body])


def _tcp_link(model: mujoco.MjModel, last: int) -> tuple[float, ...]:
    position, quat_wxyz = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    body = int(model.body(TCP_BODY).id)
    while body != last:
        rotated, product = np.empty(3), np.empty(4)
        mujoco.mju_rotVecQuat(rotated, position, model.body_quat[body])
        position = rotated + model.body_pos[body]
        mujoco.mju_mulQuat(product, model.body_quat[body], quat_wxyz)
        quat_wxyz = product
        body = int(model.body_parentid[body])
    return _pose_tuple(position, quat_wxyz)


def _pose_tuple(position: np.ndarray, quat_wxyz: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in (*position, *quat_wxyz[1:], quat_wxyz[0]))


def _home_qpos(model: mujoco.MjModel, address: dict[str, int]) -> tuple[float, ...]:
    qpos = model.qpos0.copy()
    for name, angle in zip(ARM_JOINTS, HOME_Q, strict=True):
        qpos[address[name]] = angle
    for name in FINGER_JOINTS:
        qpos[address[name]] = GRIPPER_MAX_WIDTH_M / 2
    for i, colour in enumerate(BOWL_COLOURS):
        qpos[address[f"bowl_{colour}_x"]] = 0.58
        qpos[address[f"bowl_{colour}_y"]] = 0.3 * (i - 0.5)
    return tuple(float(v) for v in qpos)
