# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import make_chunk, random_chunk

from vla_ros.chunking.reanchor import reanchored, to_absolute, to_relative
from vla_ros.errors import FrameError
from vla_ros.geometry import make_pose, pose_from_quat, rotation_about_z
from vla_ros.rotations import exp
from vla_ros.types import ActionChunk


def random_pose(rng: np.random.Generator) -> np.ndarray:
    return pose_from_quat(rng.normal(size=3), exp(rng.normal(size=3)))


def assert_same_poses(a: ActionChunk, b: ActionChunk) -> None:
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-12)
    alike = np.abs((a.quats_xyzw * b.quats_xyzw).sum(axis=1))
    np.testing.assert_allclose(alike, 1.0, atol=1e-12)
    np.testing.assert_array_equal(a.gripper_width_m, b.gripper_width_m)
    assert a.target0_ns == b.target0_ns


def test_a_row_ahead_of_a_turned_anchor() -> None:
    T_base_anchor = make_pose(np.array([1.0, 2.0, 3.0]), rotation_about_z(np.pi / 2))
    rows = to_absolute(make_chunk(0, [0.5]), T_base_anchor)
    np.testing.assert_allclose(rows.positions, [[1.0, 2.5, 3.0]], atol=1e-12)


@given(st.integers(0, 10_000))
def test_absolute_and_relative_are_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, T_base_anchor = random_chunk(3, rng), random_pose(rng)
    assert_same_poses(to_absolute(to_relative(rows, T_base_anchor), T_base_anchor), rows)


@given(st.integers(0, 10_000))
def test_leftover_rows_keep_their_poses_in_base_at_a_new_anchor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    relative, old, new = random_chunk(0, rng), random_pose(rng), random_pose(rng)
    moved = reanchored(relative, old, new)
    assert_same_poses(to_absolute(moved, new), to_absolute(relative, old))
    assert_same_poses(reanchored(moved, new, old), relative)


def test_row_zero_of_an_anchor_is_the_anchor() -> None:
    rng = np.random.default_rng(0)
    T_base_anchor = random_pose(rng)
    rows = to_absolute(make_chunk(0, [0.0]), T_base_anchor)
    np.testing.assert_allclose(rows.positions[0], T_base_anchor[:3, 3])


def test_anchors_that_are_no_rigid_transform_are_refused() -> None:
    rows = make_chunk(0, [0.0])
    for bad in (np.eye(3), 2.0 * np.eye(4), np.full((4, 4), np.nan)):
        with pytest.raises(FrameError):
            to_absolute(rows, bad)
        with pytest.raises(FrameError):
            to_relative(rows, bad)
        with pytest.raises(FrameError):
            reanchored(rows, bad, np.eye(4))
