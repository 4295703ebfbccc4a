# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import DT_NS, make_chunk, random_chunk

from vla_ros import rotations
from vla_ros.chunking.rows import (
    end_ns,
    repeated_row,
    resample,
    row_times,
    rows_from,
    sample,
    slice_rows,
    steps_until,
)
from vla_ros.geometry import quat_multiply, quat_to_rotation_vector, slerp


def test_rows_from_keeps_the_row_in_force_and_the_one_before() -> None:
    chunk = make_chunk(0, np.arange(5.0))
    rows = rows_from(chunk, 2 * DT_NS + 1)
    assert rows is not None
    assert rows.target0_ns == DT_NS
    np.testing.assert_array_equal(rows.positions[:, 0], [1, 2, 3, 4])


def test_rows_from_is_none_only_after_the_last_row() -> None:
    chunk = make_chunk(0, np.arange(5.0))
    last = rows_from(chunk, 4 * DT_NS)
    assert last is not None
    assert last.horizon == 2
    assert rows_from(chunk, 4 * DT_NS + 1) is None
    assert rows_from(None, 0) is None


def test_rows_from_before_the_first_row_gives_all() -> None:
    chunk = make_chunk(10 * DT_NS, np.arange(5.0))
    assert rows_from(chunk, 0) is chunk


def test_slice_keeps_times() -> None:
    rows = slice_rows(make_chunk(7, np.arange(5.0)), 1, 3)
    np.testing.assert_array_equal(row_times(rows), [7 + DT_NS, 7 + 2 * DT_NS])
    assert end_ns(rows) == 7 + 2 * DT_NS


def test_sample_interpolates_pose_and_holds_gripper() -> None:
    rng = np.random.default_rng(0)
    chunk = random_chunk(0, rng)
    found = sample(chunk, np.array([DT_NS + DT_NS // 4]))
    np.testing.assert_allclose(
        found.positions[0], 0.75 * chunk.positions[1] + 0.25 * chunk.positions[2]
    )
    expected = slerp(chunk.quats_xyzw[1], chunk.quats_xyzw[2], 0.25)
    np.testing.assert_allclose(found.quats_xyzw[0], expected, atol=1e-12)
    assert found.gripper_width_m[0] == chunk.gripper_width_m[1]


def test_sample_clamps_to_the_rows() -> None:
    chunk = make_chunk(0, [1.0, 2.0])
    found = sample(chunk, np.array([-DT_NS, 9 * DT_NS]))
    np.testing.assert_array_equal(found.positions[:, 0], [1.0, 2.0])


def test_resample_on_the_same_grid_copies_rows_and_repeats_the_last() -> None:
    chunk = make_chunk(0, np.arange(4.0))
    rows = resample(chunk, 2 * DT_NS, DT_NS, 4)
    np.testing.assert_array_equal(rows.positions[:, 0], [2, 3, 3, 3])


def test_repeated_row_holds_one_row() -> None:
    rows = repeated_row(make_chunk(0, np.arange(4.0)), 2, 5, 3)
    np.testing.assert_array_equal(rows.positions[:, 0], [2, 2, 2])
    assert rows.target0_ns == 5


@given(st.integers(-100, 100), st.integers(1, 30), st.integers(-200, 500))
def test_steps_until_counts_rows_due_before(grid0_ns: int, dt_ns: int, at_ns: int) -> None:
    d = steps_until(grid0_ns, dt_ns, at_ns)
    assert d >= 0
    assert grid0_ns + d * dt_ns >= at_ns
    assert d == 0 or grid0_ns + (d - 1) * dt_ns < at_ns


def test_rotations_agree_with_geometry() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 3))
    vectors[0] = 0.0
    quats = rotations.exp(vectors)
    others = rotations.exp(rng.normal(size=(200, 3)))
    products = rotations.multiply(quats, others)
    for quat, other, product in zip(quats, others, products, strict=True):
        np.testing.assert_allclose(product, quat_multiply(quat, other), atol=1e-12)
        np.testing.assert_allclose(
            rotations.log(product[None])[0], quat_to_rotation_vector(product), atol=1e-12
        )


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
def test_rotation_log_inverts_exp(vector: list[float]) -> None:
    v = np.array([vector])
    if np.linalg.norm(v) < np.pi - 1e-3:
        np.testing.assert_allclose(rotations.log(rotations.exp(v)), v, atol=1e-9)


def test_rotation_difference_and_rotated_are_inverse() -> None:
    a, b = rotations.exp(np.array([[0.1, 0.2, 0.3], [0.5, 0.0, -0.2]]))
    np.testing.assert_allclose(rotations.rotated(a, rotations.difference(a, b)), b, atol=1e-12)


def test_normalised_falls_back_where_the_average_vanishes() -> None:
    quats = np.array([[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    unit = rotations.normalised(quats, np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(unit, [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert np.linalg.norm(unit, axis=1) == pytest.approx([1.0, 1.0])
