# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from onnx_samples import robot_state

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.geometry import make_pose, rotation_about_z
from vla_ros.policies.state_vector import FIELDS, StateVector


def written(names, n_joints=7, **state):
    vector = StateVector(names, n_joints)
    out = np.full(vector.width, 99.0, dtype=np.float32)
    vector.write(robot_state(**state), out)
    return out


def test_fields_follow_each_other_in_the_order_of_the_manifest():
    T = make_pose(np.array([0.1, 0.2, 0.3]), rotation_about_z(0.5))
    out = written(
        ["gripper_width_m", "ee_position_m", "q_rad", "ee_yaw_sin_cos"],
        T_base_ee=T,
        gripper_width_m=0.05,
        q=np.arange(7.0),
    )
    expected = [0.05, 0.1, 0.2, 0.3, *range(7), np.sin(0.5), np.cos(0.5)]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_the_width_it_states(name):
    out = written([name])
    assert len(out) == (FIELDS[name].width or 7)
    assert not np.any(out == 99.0)


def test_what_is_asked_for_and_what_is_measured_are_told_apart():
    R = rotation_about_z(0.3)
    ref = make_pose(np.array([1.0, 0, 0]), R)
    out = written(
        ["ref_position_m", "ee_position_m", "tracking_error_m", "ref_rotation_6d"],
        T_base_ref=ref,
        T_base_ee=make_pose(np.array([0.75, 0, 0]), np.eye(3)),
    )
    np.testing.assert_allclose(out[:9], [1, 0, 0, 0.75, 0, 0, 0.25, 0, 0])
    np.testing.assert_allclose(out[9:], [*R[:, 0], *R[:, 1]], rtol=1e-6)


def test_robot_with_other_joints_is_refused():
    with pytest.raises(PolicyError, match="q_rad: the policy knows robots of 6 joints"):
        written(["q_rad"], n_joints=6)


def test_state_that_is_not_finite_is_refused():
    with pytest.raises(PolicyError, match="not finite"):
        written(["gripper_width_m"], gripper_width_m=np.nan)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "must be different names"),
        (["q_rad", "q_rad"], "must be different names"),
        (["speed"], "unknown state field 'speed'; known: ee_position_m"),
    ],
)
def test_wrong_fields_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        StateVector(names, 7)
