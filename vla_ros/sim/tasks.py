# SPDX-License-Identifier: Apache-2.0
"""Layouts and instructions of the table-top task: everything follows from a seed. No MuJoCo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.policies.instruction import ALL_GOALS, PickPlaceGoal
from vla_ros.sim.scene_info import SceneInfo

INSTRUCTIONS = tuple(goal.text for goal in ALL_GOALS)

_LAYOUT_STREAM = 1
_INSTRUCTION_STREAM = 2
_MAX_ATTEMPTS = 2000


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    """Area and clearances, centre to centre [m].

    An open gripper reaches 67 mm from its centre; half the diagonal of a cube is 28 mm and a bowl
    has a radius of 72 mm. The clearances leave at least 10 mm between fingers and neighbours.
    """

    x_range_m: tuple[float, float] = (0.36, 0.60)
    y_range_m: tuple[float, float] = (-0.28, 0.28)
    cube_cube_m: float = 0.11
    cube_bowl_m: float = 0.15
    bowl_bowl_m: float = 0.17

    def __post_init__(self) -> None:
        for name in ("x_range_m", "y_range_m"):
            low, high = getattr(self, name)
            if not low < high:
                raise ConfigError(f"{name} must be (low, high), got {(low, high)}")
        for name in ("cube_cube_m", "cube_bowl_m", "bowl_bowl_m"):
            if not 0.0 <= getattr(self, name) <= 0.3:
                raise ConfigError(f"{name} must be 0..0.3, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything stands: cubes (x, y [m], yaw [rad]), bowls (x, y [m]), in base."""

    cubes: dict[str, tuple[float, float, float]]
    bowls: dict[str, tuple[float, float]]


def sample_layout(seed: int, config: LayoutConfig | None = None) -> Layout:
    """Draw a layout; the same seed always gives the same one.

    Raises:
        ConfigError: if the clearances do not fit into the area, or the seed is negative.
    """
    config = config or LayoutConfig()
    random = _random(seed, _LAYOUT_STREAM)
    for _ in range(_MAX_ATTEMPTS):
        layout = _try_layout(random, config)
        if layout is not None:
            return layout
    raise ConfigError(f"no layout fits after {_MAX_ATTEMPTS} attempts: enlarge the area, {config}")


def goal_for_seed(seed: int) -> PickPlaceGoal:
    """Return the goal that belongs to a seed."""
    return ALL_GOALS[int(_random(seed, _INSTRUCTION_STREAM).integers(len(ALL_GOALS)))]


def instruction_for_seed(seed: int) -> str:
    """Return the instruction that belongs to a seed, one of ``INSTRUCTIONS``."""
    return goal_for_seed(seed).text


def apply_layout(info: SceneInfo, layout: Layout) -> NDArray[np.float64]:
    """Return ``qpos`` (nq,) with the arm at home, the gripper open and the objects in place."""
    qpos = np.array(info.home_qpos)
    for colour, (x, y, yaw) in layout.cubes.items():
        start = info.cube_qpos[colour]
        qpos[start : start + 3] = x, y, info.cube_side_m / 2
        qpos[start + 3 : start + 7] = math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
    for colour, centre in layout.bowls.items():
        qpos[list(info.bowl_qpos[colour])] = centre
    return qpos


def _try_layout(random: np.random.Generator, config: LayoutConfig) -> Layout | None:
    """Place the bowls, then the cubes; None when something cannot find room."""
    bowls: list[tuple[float, float]] = []
    cubes: list[tuple[float, float]] = []
    for count, placed, to_bowl, to_cube in (
        (len(BOWL_COLOURS), bowls, config.bowl_bowl_m, config.cube_bowl_m),
        (len(CUBE_COLOURS), cubes, config.cube_bowl_m, config.cube_cube_m),
    ):
        for _ in range(count):
            point = _find_room(random, config, [(bowls, to_bowl), (cubes, to_cube)])
            if point is None:
                return None
            placed.append(point)
    yaws = random.uniform(-math.pi, math.pi, len(cubes))
    return Layout(
        cubes={c: (*p, float(yaw)) for c, p, yaw in zip(CUBE_COLOURS, cubes, yaws, strict=True)},
        bowls=dict(zip(BOWL_COLOURS, bowls, strict=True)),
    )


def _find_room(
    random: np.random.Generator,
    config: LayoutConfig,
    obstacles: list[tuple[list[tuple[float, float]], float]],
) -> tuple[float, float] | None:
    for _ in range(30):
        point = (float(random.uniform(*config.x_range_m)), float(random.uniform(*config.y_range_m)))
        if all(math.dist(point, other) >= gap for placed, gap in obstacles for other in placed):
            return point
    return None


def _random(seed: int, stream: int) -> np.random.Generator:
    if seed < 0:
        raise ConfigError(f"seed must be >= 0, got {seed}")
    return np.random.default_rng([seed, stream])
