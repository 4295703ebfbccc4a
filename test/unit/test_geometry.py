# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from vla_ros import geometry as g
from vla_ros.errors import ShapeError


def random_quats(n=1000, seed=0):
    quats = np.random.default_rng(seed).normal(size=(n, 4))
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def test_matrix_and_quaternion_are_inverse_of_each_other():
    for quat in random_quats():
        back = g.matrix_to_quat_xyzw(g.quat_xyzw_to_matrix(quat))
        assert min(np.abs(back - quat).max(), np.abs(back + quat).max()) < 1e-12


def test_exp_of_log_is_identity():
    for quat in random_quats(seed=1):
        back = g.rotation_vector_to_quat(g.quat_to_rotation_vector(quat))
        assert abs(abs(back @ quat) - 1) < 1e-12


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1.0, np.pi - 1e-9])
def test_log_gives_the_angle(angle):
    rotvec = g.quat_to_rotation_vector(g.rotation_vector_to_quat(np.array([0, angle, 0])))
    np.testing.assert_allclose(rotvec, [0, angle, 0], atol=1e-12)


def test_product_of_quaternions_is_product_of_matrices():
    for a, b in zip(random_quats(100, 2), random_quats(100, 3), strict=True):
        expected = g.quat_xyzw_to_matrix(a) @ g.quat_xyzw_to_matrix(b)
        np.testing.assert_allclose(
            g.quat_xyzw_to_matrix(g.quat_multiply(a, b)), expected, atol=1e-12
        )


def test_slerp_ends_at_its_ends_and_is_steady():
    a, b = random_quats(2, 4)
    for fraction in (0.0, 0.25, 0.5, 1.0):
        part = g.rotation_error(
            g.quat_xyzw_to_matrix(a), g.quat_xyzw_to_matrix(g.slerp(a, b, fraction))
        )
        whole = g.rotation_error(g.quat_xyzw_to_matrix(a), g.quat_xyzw_to_matrix(b))
        np.testing.assert_allclose(part, fraction * whole, atol=1e-9)


def test_inverted_pose_undoes_the_pose():
    T = g.pose_from_quat(np.array([0.1, -2.0, 3.0]), random_quats(1, 5)[0])
    np.testing.assert_allclose(T @ g.invert_pose(T), np.eye(4), atol=1e-12)


def test_transform_points_refuses_other_shapes():
    with pytest.raises(ShapeError, match=r"\(n, 3\)"):
        g.transform_points(np.eye(4), np.zeros(3))
