# SPDX-License-Identifier: Apache-2.0
"""The C++ law against an independent formulation in NumPy and Pinocchio's Python module."""

import numpy as np
import pinocchio as pin
import pytest

import vla_ros_core as core
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_model, to_impedance_config
from vla_ros.errors import ConfigError
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.sim.plant import FR3_ARMATURE_KG_M2, FR3_HOME_Q, fr3_arm

CONFIG = ControlConfig(torque_rate_limit_nm_s=1e5)
LIMIT = np.array([87.0] * 4 + [12.0] * 3)


@pytest.fixture(scope="module")
def arm():
    return fr3_arm()


@pytest.fixture(scope="module")
def reference_model(arm):
    full = pin.buildModelFromXML(arm.urdf_xml)
    fingers = [full.getJointId("fr3_finger_joint1"), full.getJointId("fr3_finger_joint2")]
    model = pin.buildReducedModel(full, fingers, pin.neutral(full))
    model.armature = np.array(FR3_ARMATURE_KG_M2)
    return model


def expected_torque(model, q, dq, position, R, twist, config):
    data = model.createData()
    frame = model.getFrameId("fr3_hand_tcp")
    pin.forwardKinematics(model, data, q, dq)
    pin.updateFramePlacements(model, data)
    J = pin.computeFrameJacobian(model, data, q, frame, pin.LOCAL_WORLD_ALIGNED)
    M = pin.crba(model, data, q)
    M = np.triu(M) + np.triu(M, 1).T
    ee = data.oMf[frame]
    K = np.diag([config.stiffness_trans] * 3 + [config.stiffness_rot] * 3)
    error = np.concatenate([position - ee.translation, pin.log3(R @ ee.rotation.T)])
    clip = np.repeat([config.error_clip_trans_m, config.error_clip_rot_rad], 3)
    inverse_inertia = J @ np.linalg.inv(M) @ J.T + 1e-4 * np.eye(6)
    inertia = np.linalg.inv(inverse_inertia)
    # Independent route to the damping: D = 2 zeta Lambda (Lambda^-1 K)^(1/2).
    values, vectors = np.linalg.eig(inverse_inertia @ K)
    root = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    D = 2 * config.damping_ratio * inertia @ root.real
    wrench = K @ np.clip(error, -clip, clip) + D @ (twist - J @ dq)
    posture = config.nullspace_stiffness * (np.array(FR3_HOME_Q) - q)
    posture -= 2 * np.sqrt(config.nullspace_stiffness) * dq
    N = np.eye(7) - J.T @ inertia @ J @ np.linalg.inv(M)
    bias = pin.nonLinearEffects(model, data, q, dq)
    return J.T @ wrench + N @ posture + bias


def test_torque_equals_the_independent_formulation_on_random_states(arm, reference_model):
    random = np.random.default_rng(0)
    model = build_model(arm)
    law = core.ImpedanceLaw(to_impedance_config(CONFIG, arm), 7)
    worst = 0.0
    for _ in range(2000):
        q = np.array(FR3_HOME_Q) + random.normal(0, 0.4, 7)
        dq = random.normal(0, 0.3, 7)
        model.update(list(q), list(dq))
        position = model.terms()["position"] + random.normal(0, 0.03, 3)
        R = pin.exp3(random.normal(0, 1.0, 3))
        twist = random.normal(0, 0.2, 6)
        expected = expected_torque(reference_model, q, dq, position, R, twist, CONFIG)
        law.reset(list(np.clip(expected, -LIMIT, LIMIT)))
        tau, _ = law.compute(
            model, list(q), list(dq), position, matrix_to_quat_xyzw(R), twist, 1e-3
        )
        worst = max(worst, np.abs(np.array(tau) - np.clip(expected, -LIMIT, LIMIT)).max())
    assert worst < 1e-6


def test_torque_changes_no_faster_than_allowed_at_any_rate(arm):
    config = ControlConfig(torque_rate_limit_nm_s=200.0)
    model = build_model(arm)
    law = core.ImpedanceLaw(to_impedance_config(config, arm), 7)
    model.update(list(FR3_HOME_Q), [0.0] * 7)
    for dt_s in (0.001, 0.002):
        law.reset([0.0] * 7)
        far = model.terms()["position"] + np.array([0.3, 0, 0])
        quat = model.terms()["quat_xyzw"]
        previous = np.zeros(7)
        for _ in range(100):
            tau, _ = law.compute(model, FR3_HOME_Q, [0.0] * 7, far, quat, np.zeros(6), dt_s)
            assert np.abs(np.array(tau) - previous).max() <= 200.0 * dt_s + 1e-12
            previous = np.array(tau)


def test_not_finite_reference_repeats_the_previous_torque(arm):
    model = build_model(arm)
    law = core.ImpedanceLaw(to_impedance_config(CONFIG, arm), 7)
    model.update(list(FR3_HOME_Q), [0.0] * 7)
    law.reset([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    quat = model.terms()["quat_xyzw"]
    for bad in (np.nan, np.inf):
        tau, status = law.compute(
            model, FR3_HOME_Q, [0.0] * 7, np.array([bad, 0, 0]), quat, np.zeros(6), 1e-3
        )
        if status == 3:
            assert tau == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        assert np.isfinite(tau).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stiffness_trans": -1.0}, "stiffness_trans must be 0.0 to 5000.0 N/m, got -1.0"),
        ({"rate_hz": float("nan")}, "rate_hz must be"),
        ({"damping_ratio": "soft"}, "damping_ratio must be float"),
    ],
)
def test_settings_out_of_range_are_refused_by_name_value_and_range(change, message):
    with pytest.raises(ConfigError, match=message):
        ControlConfig(**change)


def test_unknown_frame_is_refused_with_the_known_ones(arm):
    with pytest.raises(core.Error, match="'nowhere' is not in the URDF, which has"):
        core.RobotModel(arm.urdf_xml, list(arm.joint_names), "fr3_link0", "nowhere", [])
