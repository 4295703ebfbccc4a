# SPDX-License-Identifier: Apache-2.0
"""What a perfect slow policy would say: the classical latent, read from the simulation's state.

For experts that demonstrate; no policy under evaluation may see it. No MuJoCo needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.policies.base import Tensors
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.types import RobotState

Array = NDArray[np.float64]

_RELEASED_WIDTH_M = 0.048  # those of the classical slow policy
_RELEASED_DISTANCE_M = 0.08


@dataclass(frozen=True)
class Objects:
    """Where everything is.

    Attributes:
        cubes: (4, 4) x, y, z [m] and yaw [rad] in base, in the order of ``CUBE_COLOURS``.
        bowls: (2, 2) x, y [m] in base, in the order of ``BOWL_COLOURS``.
    """

    cubes: Array
    bowls: Array


def read_objects(info: SceneInfo, qpos: Array) -> Objects:
    """Return where everything is in a state (nq,)."""
    cubes = [(*info.cube_position(qpos, c), info.cube_yaw(qpos, c)) for c in CUBE_COLOURS]
    bowls = [info.bowl_position(qpos, c) for c in BOWL_COLOURS]
    return Objects(np.array(cubes), np.array(bowls))


def true_latent(
    info: SceneInfo, objects: Objects, goal: PickPlaceGoal, state: RobotState, now_ns: int
) -> dict[str, NDArray[np.generic]]:
    """Return the tensors that ``ClassicalFastPolicy`` reads, without any error."""
    cube = objects.cubes[CUBE_COLOURS.index(goal.cube_colour)]
    bowl = objects.bowls[BOWL_COLOURS.index(goal.bowl_colour)]
    inside = np.linalg.norm(cube[:2] - bowl) < info.bowl.inner_radius_m
    is_low = cube[2] < info.bowl.height_m
    far = np.linalg.norm(state.T_base_ee[:3, 3] - cube[:3]) > _RELEASED_DISTANCE_M
    is_released = state.gripper_width_m > _RELEASED_WIDTH_M or far
    return {
        "pick_position": cube[:3].copy(),
        "pick_yaw": cube[3:].copy(),
        "pick_confidence": np.ones(1),
        "pick_seen_ns": np.array([now_ns], dtype=np.int64),
        "place_position": np.array([*bowl, info.bowl.height_m]),
        "place_confidence": np.ones(1),
        "placed": np.array([float(inside and is_low and is_released)]),
    }


def with_belief_error(tensors: Tensors, pick_m: Array, place_m: Array) -> Tensors:
    """Return the latent with pick and place moved sideways by (2,) [m] each."""
    changed = dict(tensors)
    for name, offset in (("pick_position", pick_m), ("place_position", place_m)):
        moved = np.array(tensors[name], dtype=float)
        moved[:2] += offset
        changed[name] = moved
    return changed
