# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from synthetic_cell import load_info

from vla_ros.errors import ConfigError
from vla_ros.policies.instruction import parse_instruction
from vla_ros.sim.tasks import (
    INSTRUCTIONS,
    LayoutConfig,
    apply_layout,
    goal_for_seed,
    instruction_for_seed,
    sample_layout,
)


def test_sample_layout_keeps_area_and_clearances_for_many_seeds() -> None:
    config = LayoutConfig()
    for seed in range(1000):
        layout = sample_layout(seed)
        things = [(p[:2], False) for p in layout.cubes.values()]
        things += [(p, True) for p in layout.bowls.values()]
        for (x, y), _ in things:
            assert config.x_range_m[0] <= x <= config.x_range_m[1]
            assert config.y_range_m[0] <= y <= config.y_range_m[1]
        for (a, a_bowl), (b, b_bowl) in combinations(things, 2):
            gap = (config.cube_cube_m, config.cube_bowl_m, config.bowl_bowl_m)[a_bowl + b_bowl]
            assert math.dist(a, b) >= gap


def test_sample_layout_same_seed_same_layout() -> None:
    assert sample_layout(42) == sample_layout(42)
    assert sample_layout(42) != sample_layout(43)


def test_sample_layout_impossible_area_raises() -> None:
    with pytest.raises(ConfigError, match="enlarge the area"):
        sample_layout(0, LayoutConfig(x_range_m=(0.4, 0.45), y_range_m=(0.0, 0.1)))


@pytest.mark.parametrize("function", [sample_layout, goal_for_seed])
def test_negative_seed_raises(function: object) -> None:
    with pytest.raises(ConfigError, match="seed"):
        function(-1)  # type: ignore[operator]


def test_layout_config_reversed_range_raises() -> None:
    with pytest.raises(ConfigError, match="x_range_m"):
        LayoutConfig(x_range_m=(0.6, 0.4))


def test_instructions_are_eight_and_all_drawn() -> None:
    assert len(set(INSTRUCTIONS)) == 8
    assert {instruction_for_seed(seed) for seed in range(200)} == set(INSTRUCTIONS)
    assert parse_instruction(instruction_for_seed(3)) == goal_for_seed(3)


def test_apply_layout_places_everything_and_keeps_the_arm_home() -> None:
    info, layout = load_info(), sample_layout(7)
    qpos = apply_layout(info, layout)
    home = np.array(info.home_qpos)
    np.testing.assert_array_equal(qpos[list(info.arm_qpos)], home[list(info.arm_qpos)])
    for colour, (x, y, yaw) in layout.cubes.items():
        np.testing.assert_allclose(info.cube_position(qpos, colour), [x, y, 0.02])
        assert math.isclose(info.cube_yaw(qpos, colour), yaw, abs_tol=1e-12)
    for colour, centre in layout.bowls.items():
        np.testing.assert_allclose(info.bowl_position(qpos, colour), centre)
    assert math.isclose(info.gripper_width(qpos), info.gripper_max_width_m)
