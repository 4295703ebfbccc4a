# SPDX-License-Identifier: Apache-2.0
"""Columns of actions become the rows they mean, and rows become columns again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx_samples import DT_NS, NOW, robot_state

from vla_ros import rotations
from vla_ros.errors import ConfigError, PolicyError, ShapeError
from vla_ros.geometry import make_pose, matrix_to_quat_xyzw, quat_xyzw_to_matrix, rotation_about_z
from vla_ros.policies.action_space import MODES, ROTATION_COLUMNS, ActionSpace
from vla_ros.types import ActionChunk

DOWN = np.diag([1.0, -1.0, -1.0])


def random_rotations(rng, n):
    return rotations.to_matrices(rotations.exp(rng.normal(size=(n, 3))))


def state(rng):
    R = random_rotations(rng, 2)
    return robot_state(
        T_base_ref=make_pose(rng.normal(size=3) * 0.2, R[0]),
        T_base_ee=make_pose(rng.normal(size=3) * 0.2, R[1]),
        gripper_target_m=0.03,
    )


def rows(rng, state, n=6):
    T = state.T_base_ref
    quats = rotations.from_matrices(random_rotations(rng, n))
    return ActionChunk(
        target0_ns=NOW,
        dt_ns=DT_NS,
        positions=T[:3, 3] + 0.1 * rng.normal(size=(n, 3)),
        quats_xyzw=quats,
        gripper_width_m=rng.uniform(0.0, 0.08, n),
    )


def angle_rad(a, b):
    return np.linalg.norm(rotations.difference(a, b), axis=1)


@pytest.mark.parametrize("anchor", ["reference", "measured"])
@pytest.mark.parametrize(
    ("position", "rotation", "form"),
    list(itertools.product(MODES, MODES, [f for f in ROTATION_COLUMNS if f != "yaw_sin_cos"])),
)
def test_rows_come_back_from_their_columns(position, rotation, form, anchor):
    rng = np.random.default_rng(7)
    space = ActionSpace(
        rows=6,
        dt_s=0.05,
        position=position,
        rotation=rotation,
        rotation_format=form,
        anchor=anchor,
        reach_m=10.0,
    )
    for _ in range(20):
        at = state(rng)
        before = rows(rng, at)
        columns = space.to_columns(before, at)
        assert columns.shape == (6, space.columns)
        after = space.to_rows(columns, at, target0_ns=NOW)
        np.testing.assert_allclose(after.positions, before.positions, atol=1e-12)
        assert angle_rad(after.quats_xyzw, before.quats_xyzw).max() < 1e-7
        np.testing.assert_allclose(after.gripper_width_m, before.gripper_width_m)


def test_relative_to_base_moves_along_the_axes_of_base():
    at = robot_state(T_base_ref=make_pose(np.array([0.4, 0.1, 0.3]), DOWN))
    columns = np.array([[0.0, 0.02, 0.01, 1, 0, 0, 0, -1, 0, 0.05]])
    for position, y, z in (("relative_base", 0.12, 0.31), ("relative_anchor", 0.08, 0.29)):
        made = ActionSpace(position=position).to_rows(columns, at, target0_ns=NOW)
        np.testing.assert_allclose(made.positions, [[0.4, y, z]])
    made = ActionSpace(position="absolute").to_rows(columns, at, target0_ns=NOW)
    np.testing.assert_allclose(made.positions, [[0.0, 0.02, 0.01]])


@pytest.mark.parametrize("yaw", [-3.0, 0.0, 1.2])
def test_yaw_is_that_of_a_hand_that_points_down(yaw):
    columns = np.array([[0, 0, 0, 2 * np.sin(yaw), 2 * np.cos(yaw), 0.04]])  # not unit: scaled
    tilted = quat_xyzw_to_matrix(rotations.exp(np.array([0.0, 0.1, 0.0])))
    anchor = robot_state(T_base_ref=make_pose(np.zeros(3), tilted @ rotation_about_z(0.7) @ DOWN))
    anchor_yaw = np.arctan2(anchor.T_base_ref[1, 0], anchor.T_base_ref[0, 0])
    for rotation, expected in (("absolute", yaw), ("relative_base", anchor_yaw + yaw)):
        space = ActionSpace(rotation_format="yaw_sin_cos", rotation=rotation)
        assert space.columns == 6
        made = space.to_rows(columns, anchor, target0_ns=NOW)
        R = quat_xyzw_to_matrix(made.quats_xyzw[0])
        np.testing.assert_allclose(R, rotation_about_z(expected) @ DOWN, atol=1e-12)
        again = space.to_columns(made, anchor)
        np.testing.assert_allclose(again[0, 3:5], [np.sin(yaw), np.cos(yaw)], atol=1e-12)


def test_yaw_about_an_axis_of_the_anchor_is_refused():
    with pytest.raises(ConfigError, match="rotation must be absolute or relative_base"):
        ActionSpace(rotation_format="yaw_sin_cos", rotation="relative_anchor")


def test_six_columns_that_are_not_orthonormal_give_a_rotation():
    rng = np.random.default_rng(0)
    columns = np.hstack([np.zeros((500, 3)), rng.normal(size=(500, 6)), np.zeros((500, 1))])
    made = ActionSpace().to_rows(columns, robot_state(), target0_ns=NOW)
    R = rotations.to_matrices(made.quats_xyzw)
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (500, 1, 1)), atol=1e-9)
    first = columns[:, 3:6] / np.linalg.norm(columns[:, 3:6], axis=1, keepdims=True)
    np.testing.assert_allclose(R[:, :, 0], first, atol=1e-9)


def row(**columns):
    values = {"x": 0.0, "a": (1.0, 0.0, 0.0), "b": (0.0, -1.0, 0.0), "grip": 0.04} | columns
    return np.array([[values["x"], 0, 0, *values["a"], *values["b"], values["grip"]]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (row(x=1e6), r"row 0 is 1e\+06 m away, at most 2 m are believed"),
        (row(x=np.nan), "row 0 is nan m away"),
        (row(a=(0.0, 0.0, 0.0)), "the first axis of row 0 has length 0: it points nowhere"),
        (row(b=(3.0, 0.0, 0.0)), "the second axis of row 0 has length 0"),
        (row(b=(np.nan, 0.0, 0.0)), "points nowhere"),
        (row(grip=5.0), r"gripper widths must be 0 to 0\.08 m, got 5 to 5 m"),
        (row(grip=np.nan), "gripper widths must be"),
    ],
)
def test_rows_that_make_no_sense_are_refused(columns, message):
    with pytest.raises(PolicyError, match=message):
        ActionSpace().to_rows(columns, robot_state(), target0_ns=NOW)


def test_width_a_little_outside_is_brought_into_range():
    made = ActionSpace().to_rows(row(grip=-0.004), robot_state(), target0_ns=NOW)
    assert made.gripper_width_m.tolist() == [0.0]


def test_policy_without_gripper_leaves_it_as_it_is():
    space = ActionSpace(gripper="none")
    made = space.to_rows(row()[:, :-1], robot_state(gripper_target_m=0.07), target0_ns=NOW)
    assert made.gripper_width_m.tolist() == [0.07]


def test_wrong_number_of_columns_is_refused():
    with pytest.raises(ShapeError, match=r"must have shape \(H, 10\), got \(1, 9\)"):
        ActionSpace().to_rows(row()[:, :-1], robot_state(), target0_ns=NOW)


def test_first_row_may_come_after_the_state():
    space = ActionSpace(first_row_s=0.05)
    assert space.target0_ns(robot_state()) == NOW + DT_NS


@pytest.mark.parametrize("value", [[0.08, 0.0], [0.0], [0.0, 2.0]])
def test_gripper_range_is_checked(value):
    with pytest.raises(ConfigError, match="gripper_range_m"):
        ActionSpace(gripper_range_m=tuple(value))


def test_quaternions_of_matrices_are_those_of_one_at_a_time_and_neighbours_agree():
    rng = np.random.default_rng(3)
    R = random_rotations(rng, 1000)
    quats = rotations.from_matrices(R)
    single = np.array([matrix_to_quat_xyzw(one) for one in R])
    np.testing.assert_allclose(np.abs(np.sum(quats * single, axis=1)), 1.0, atol=1e-12)
    assert np.all(np.sum(quats[1:] * quats[:-1], axis=1) >= 0.0)
    half_turns = np.array([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])])
    np.testing.assert_allclose(
        rotations.to_matrices(rotations.from_matrices(half_turns)), half_turns
    )
