# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from synthetic_cell import load_info

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.sim.judge import Judge, JudgeVerdict
from vla_ros.sim.tasks import apply_layout, sample_layout

MS = 1_000_000
GOAL = PickPlaceGoal("red", "cyan")
INFO = load_info()


def _placed_state() -> tuple[np.ndarray, np.ndarray]:
    """Return a state in which the goal is reached."""
    qpos = apply_layout(INFO, sample_layout(1))
    _put(qpos, "red", (0.01, -0.02), 0.024)
    return qpos, np.zeros(INFO.nv)


def _put(qpos: np.ndarray, cube: str, offset: tuple[float, float], z: float) -> None:
    start = INFO.cube_qpos[cube]
    qpos[start : start + 2] = INFO.bowl_position(qpos, "cyan") + offset
    qpos[start + 2] = z


def _judge_for(qpos: np.ndarray, qvel: np.ndarray, duration_ms: int = 1000) -> JudgeVerdict:
    judge = Judge(INFO, GOAL)
    for tick in range(0, duration_ms + 1, 10):
        verdict = judge.update(qpos, qvel, 10**12 + tick * MS)
    return verdict


def test_update_placed_and_held_succeeds() -> None:
    assert _judge_for(*_placed_state()) == JudgeVerdict(True, 1.0, "success")


def test_update_succeeds_after_half_a_second_not_before() -> None:
    assert not _judge_for(*_placed_state(), duration_ms=490).success
    assert _judge_for(*_placed_state(), duration_ms=500).success


def test_update_break_restarts_the_count() -> None:
    qpos, qvel = _placed_state()
    away = apply_layout(INFO, sample_layout(1))
    judge = Judge(INFO, GOAL)
    judge.update(qpos, qvel, 0)
    judge.update(qpos, qvel, 600 * MS)
    assert not judge.update(away, qvel, 610 * MS).success
    verdict = judge.update(qpos, qvel, 620 * MS)
    assert not verdict.success
    assert verdict.success_since_s == 0.0


@pytest.mark.parametrize(
    ("offset", "z"), [((0.07, 0.0), 0.024), ((0.0, 0.0), 0.046), ((0.0, 0.0), 0.2)]
)
def test_update_outside_radius_or_above_rim_fails(offset: tuple[float, float], z: float) -> None:
    qpos, qvel = _placed_state()
    _put(qpos, "red", offset, z)
    verdict = _judge_for(qpos, qvel)
    assert not verdict.success
    assert verdict.reason == "the red cube is not in the cyan bowl"


def test_update_other_cube_in_the_bowl_fails() -> None:
    qpos, qvel = _placed_state()
    _put(qpos, "blue", (-0.03, 0.03), 0.03)
    assert "blue cube is in the cyan bowl too" in _judge_for(qpos, qvel).reason


def test_update_wrong_bowl_fails() -> None:
    qpos, qvel = _placed_state()
    start = INFO.cube_qpos["red"]
    qpos[start : start + 2] = INFO.bowl_position(qpos, "purple")
    assert not _judge_for(qpos, qvel).success


@pytest.mark.parametrize(("index", "speed"), [(0, 0.03), (2, -0.03), (5, 1.0)])
def test_update_moving_cube_fails(index: int, speed: float) -> None:
    qpos, qvel = _placed_state()
    qvel[INFO.cube_dof["red"] + index] = speed
    assert "still moves" in _judge_for(qpos, qvel).reason


def test_update_closed_gripper_far_away_counts_as_released() -> None:
    qpos, qvel = _placed_state()
    qpos[list(INFO.finger_qpos)] = 0.0
    assert _judge_for(qpos, qvel).success


def test_update_closed_gripper_at_the_cube_counts_as_holding() -> None:
    qpos, qvel = _placed_state()
    qpos[list(INFO.arm_qpos)] = [0.0, 0.4, 0.0, -2.3, 0.0, 2.7, 0.785]
    qpos[list(INFO.finger_qpos)] = 0.02
    tcp = INFO.tcp_pose(qpos)[:3, 3]
    qpos[list(INFO.bowl_qpos["cyan"])] = tcp[:2]
    start = INFO.cube_qpos["red"]
    qpos[start : start + 2] = tcp[:2]
    qpos[start + 2] = 0.04
    assert abs(tcp[2] - 0.04) < 0.06, "the pose is chosen so that the hand is at the cube"
    assert "still holds" in _judge_for(qpos, qvel).reason
    qpos[list(INFO.finger_qpos)] = 0.03
    assert _judge_for(qpos, qvel).success


def test_update_not_finite_fails() -> None:
    qpos, qvel = _placed_state()
    qpos[0] = np.nan
    assert "not finite" in _judge_for(qpos, qvel).reason


def test_update_wrong_length_raises() -> None:
    with pytest.raises(ShapeError):
        Judge(INFO, GOAL).update(np.zeros(3), np.zeros(INFO.nv), 0)


def test_judge_unknown_object_raises() -> None:
    with pytest.raises(ConfigError, match="lacks"):
        Judge(INFO, PickPlaceGoal("pink", "cyan"))
