# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from synthetic_cell import draw_cell, observe

from vla_ros.errors import ConfigError, InstructionError, PolicyError
from vla_ros.perception import tick_code
from vla_ros.policies.classical_slow import ClassicalSlowConfig, ClassicalSlowPolicy
from vla_ros.policies.instruction import ALL_GOALS
from vla_ros.sim.tasks import Layout, sample_layout

RED_CYAN = "put the red cube in the cyan bowl"
LAYOUT = Layout(
    cubes={
        "red": (0.45, 0.10, 0.3),
        "green": (0.5, -0.2, 0.1),
        "blue": (0.4, -0.1, 0.0),
        "yellow": (0.55, 0.25, 0.5),
    },
    bowls={"purple": (0.55, 0.0), "cyan": (0.42, -0.24)},
)
IN_BOWL = dataclasses.replace(LAYOUT, cubes={**LAYOUT.cubes, "red": (0.43, -0.23, 0.2)})
RED_COLUMNS = slice(120, 165)


def _yaw_error_deg(a: float, b: float) -> float:
    return abs(math.degrees((a - b + math.pi / 4) % (math.pi / 2) - math.pi / 4))


def test_encode_finds_pick_and_place_for_many_layouts() -> None:
    cube_m, yaw_deg, bowl_m = [], [], []
    for seed in range(40):
        layout, goal = sample_layout(seed), ALL_GOALS[seed % 8]
        out = ClassicalSlowPolicy().encode(observe(goal.text, draw_cell(layout)))
        x, y, yaw = layout.cubes[goal.cube_colour]
        cube_m.append(math.dist(out["pick_position"], (x, y, 0.02)))
        yaw_deg.append(_yaw_error_deg(float(out["pick_yaw"][0]), yaw))
        bowl = layout.bowls[goal.bowl_colour]
        bowl_m.append(math.dist(out["place_position"], (*bowl, 0.045)))
        assert out["pick_confidence"][0] > 0.85
        assert out["place_confidence"][0] > 0.85
    assert np.quantile(cube_m, 0.95) <= 0.005
    assert np.quantile(yaw_deg, 0.95) <= 5.0
    assert np.quantile(bowl_m, 0.95) <= 0.008


def test_encode_returns_the_agreed_tensors() -> None:
    frame = draw_cell(LAYOUT, capture_ns=77)
    tick_code.draw(frame.rgb, 123_000_000)
    out = ClassicalSlowPolicy().encode(observe(RED_CYAN, frame))
    shapes = {name: (value.shape, value.dtype.name) for name, value in out.items()}
    assert shapes == {
        "pick_position": ((3,), "float64"),
        "pick_yaw": ((1,), "float64"),
        "pick_confidence": ((1,), "float64"),
        "pick_seen_ns": ((1,), "int64"),
        "place_position": ((3,), "float64"),
        "place_confidence": ((1,), "float64"),
        "place_seen_ns": ((1,), "int64"),
        "placed": ((1,), "float64"),
        "tick_code": ((8, 224, 3), "uint8"),
    }
    assert tick_code.decode(out["tick_code"]) == 123_000_000
    assert out["pick_seen_ns"][0] == out["place_seen_ns"][0] == 77


def test_encode_hidden_cube_keeps_the_last_clear_view() -> None:
    policy = ClassicalSlowPolicy()
    before = policy.encode(observe(RED_CYAN, draw_cell(LAYOUT, 10)))
    hidden = policy.encode(observe(RED_CYAN, draw_cell(LAYOUT, 20, hidden_columns=RED_COLUMNS)))
    np.testing.assert_array_equal(hidden["pick_position"], before["pick_position"])
    assert hidden["pick_seen_ns"][0] == 10
    assert hidden["place_seen_ns"][0] == 20
    assert hidden["pick_confidence"][0] == before["pick_confidence"][0]


def test_encode_hidden_from_the_start_has_no_confidence() -> None:
    frame = draw_cell(LAYOUT, 20, hidden_columns=RED_COLUMNS)
    out = ClassicalSlowPolicy().encode(observe(RED_CYAN, frame))
    assert out["pick_confidence"][0] == 0.0
    assert out["pick_seen_ns"][0] == 0


def test_encode_half_hidden_cube_is_less_confident() -> None:
    columns = slice(0, 137)
    out = ClassicalSlowPolicy().encode(observe(RED_CYAN, draw_cell(LAYOUT, hidden_columns=columns)))
    assert 0.2 < out["pick_confidence"][0] < 0.8


def test_encode_place_seen_empty_is_forgotten() -> None:
    policy = ClassicalSlowPolicy()
    policy.encode(observe(RED_CYAN, draw_cell(LAYOUT, 10)))
    gone = dataclasses.replace(LAYOUT, cubes={"blue": (0.4, -0.1, 0.0)})
    out = policy.encode(observe(RED_CYAN, draw_cell(gone, 20)))
    assert out["pick_confidence"][0] == 0.0


def test_encode_moved_cube_is_followed() -> None:
    policy = ClassicalSlowPolicy()
    policy.encode(observe(RED_CYAN, draw_cell(LAYOUT, 10)))
    out = policy.encode(observe(RED_CYAN, draw_cell(IN_BOWL, 20)))
    np.testing.assert_allclose(out["pick_position"][:2], [0.43, -0.23], atol=0.005)
    assert out["pick_seen_ns"][0] == 20


def test_encode_lifted_cube_is_found_at_its_height() -> None:
    frame = draw_cell(LAYOUT, cube_z_m={"red": 0.15})
    out = ClassicalSlowPolicy().encode(observe(RED_CYAN, frame))
    np.testing.assert_allclose(out["pick_position"], [0.45, 0.10, 0.15], atol=0.005)


@pytest.mark.parametrize(
    ("layout", "z", "placed"), [(IN_BOWL, 0.024, 1.0), (IN_BOWL, 0.15, 0.0), (LAYOUT, 0.02, 0.0)]
)
def test_encode_placed_only_low_inside_the_bowl(layout: Layout, z: float, placed: float) -> None:
    frame = draw_cell(layout, cube_z_m={"red": z})
    out = ClassicalSlowPolicy().encode(observe(RED_CYAN, frame))
    assert out["placed"][0] == placed


def test_encode_cube_in_the_closed_hand_is_not_placed() -> None:
    frame = draw_cell(IN_BOWL, cube_z_m={"red": 0.024})
    observation = observe(RED_CYAN, frame, width_m=0.04)
    observation.state.T_base_ee[:3, 3] = 0.43, -0.23, 0.03
    assert ClassicalSlowPolicy().encode(observation)["placed"][0] == 0.0


@pytest.mark.parametrize("value", [0, 128, 255])
def test_encode_blank_image_has_no_confidence_even_with_memory(value: int) -> None:
    policy = ClassicalSlowPolicy()
    seen = policy.encode(observe(RED_CYAN, draw_cell(IN_BOWL, 10, {"red": 0.024})))
    frame = draw_cell(IN_BOWL, 20)
    frame.rgb[:] = value
    tick_code.draw(frame.rgb, 20)
    out = policy.encode(observe(RED_CYAN, frame))
    for name in ("pick_confidence", "place_confidence", "placed"):
        assert seen[name][0] > 0.5
        assert out[name][0] == 0.0
    assert out["pick_seen_ns"][0] == 10


def test_encode_other_instruction_forgets_the_former() -> None:
    policy = ClassicalSlowPolicy()
    policy.encode(observe(RED_CYAN, draw_cell(LAYOUT, 10)))
    hidden = draw_cell(LAYOUT, 20, hidden_columns=slice(0, 224))
    out = policy.encode(observe("put the blue cube in the purple bowl", hidden))
    assert out["pick_confidence"][0] == out["place_confidence"][0] == 0.0


def test_encode_without_image_or_depth_raises() -> None:
    frame = draw_cell(LAYOUT)
    policy = ClassicalSlowPolicy()
    with pytest.raises(PolicyError, match="scene_camera"):
        policy.encode(observe(RED_CYAN))
    with pytest.raises(PolicyError, match="no depth"):
        policy.encode(observe(RED_CYAN, dataclasses.replace(frame, depth_m=None)))


def test_check_instruction_unknown_colour_raises() -> None:
    with pytest.raises(InstructionError, match="orange"):
        ClassicalSlowPolicy().check_instruction("put the orange cube in the cyan bowl")


def test_encode_does_not_change_its_image() -> None:
    frame = draw_cell(LAYOUT)
    rgb = frame.rgb.copy()
    ClassicalSlowPolicy().encode(observe(RED_CYAN, frame))
    np.testing.assert_array_equal(frame.rgb, rgb)


@pytest.mark.parametrize(
    "values",
    [
        {"max_age_s": 0.0},
        {"cube_side_m": 1.0},
        {"keep_confidence": 1.5},
        {"weak_confidence": 0.9},
        {"bowl_radius_m": (0.08, 0.07)},
    ],
)
def test_config_out_of_range_raises(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        ClassicalSlowConfig(**values)  # type: ignore[arg-type]
