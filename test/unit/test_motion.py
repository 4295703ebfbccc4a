# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from vla_ros.geometry import (
    make_pose,
    quat_conjugate,
    quat_multiply,
    quat_to_rotation_vector,
    quat_xyzw_to_matrix,
    rotation_about_z,
    rotation_error,
)
from vla_ros.policies.motion import MotionLimits, plan_rows

LIMITS = MotionLimits()
DT = 1 / 30


def run_to_goal(start, twist, goal_position, goal_R, rows=150):
    return plan_rows(start, twist, goal_position, goal_R, rows, DT, LIMITS)


@pytest.mark.parametrize("seed", range(20))
def test_plan_reaches_the_goal_within_limits_and_without_overshoot(seed):
    random = np.random.default_rng(seed)
    goal = random.uniform(-0.4, 0.4, 3)
    goal_R = rotation_about_z(float(random.uniform(-1.5, 1.5)))
    positions, quats = run_to_goal(np.eye(4), np.zeros(6), goal, goal_R)
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) / DT
    assert speed.max() <= LIMITS.speed_m_s + 1e-6
    acceleration = np.linalg.norm(np.diff(positions, n=2, axis=0), axis=1) / DT**2
    assert acceleration.max() <= LIMITS.acceleration_m_s2 * 1.01
    np.testing.assert_allclose(positions[-1], goal, atol=1e-4)
    angle = np.linalg.norm(rotation_error(quat_xyzw_to_matrix(quats[-1]), goal_R))
    assert angle < 1e-3
    progress = positions @ goal / np.linalg.norm(goal)
    assert progress.max() <= np.linalg.norm(goal) + 1e-6


def test_first_row_is_the_start_and_velocity_goes_on():
    start = make_pose(np.array([0.4, 0.1, 0.3]), np.diag([1.0, -1.0, -1.0]))
    twist = np.array([0.2, 0, 0, 0, 0, 0.4])
    positions, quats = run_to_goal(start, twist, np.array([0.6, 0.1, 0.3]), start[:3, :3], rows=4)
    np.testing.assert_allclose(positions[0], start[:3, 3])
    first_step = (positions[1] - positions[0]) / DT
    assert first_step[0] == pytest.approx(0.2, abs=LIMITS.acceleration_m_s2 * DT)
    spin = quat_to_rotation_vector(quat_multiply(quats[1], quat_conjugate(quats[0]))) / DT
    assert spin[2] > 0.2


def test_at_the_goal_nothing_moves():
    positions, quats = run_to_goal(np.eye(4), np.zeros(6), np.zeros(3), np.eye(3), rows=16)
    assert np.abs(positions).max() == 0.0
    np.testing.assert_allclose(quats, np.tile([0, 0, 0, 1.0], (16, 1)))
