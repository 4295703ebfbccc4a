# SPDX-License-Identifier: Apache-2.0
"""The C++ law against an independent formulation in NumPy and Pinocchio's Python module."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from law_reference import ReferenceLaw, pinocchio_model

import vla_ros_core as core
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_model, to_law_config
from vla_ros.errors import ConfigError
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.sim.plant import FR3_HOME_Q, fr3_arm

HOME = np.array(FR3_HOME_Q)
N = len(HOME)

KINDS = {
    "impedance": core.LawKind.IMPEDANCE,
    "operational_space": core.LawKind.OPERATIONAL_SPACE,
    "joint": core.LawKind.JOINT,
}
PROJECTORS = {
    "dynamic": core.Projector.DYNAMIC,
    "kinematic": core.Projector.KINEMATIC,
    "none": core.Projector.NONE,
}
DESIGNS = {"inertia_aware": core.DampingDesign.INERTIA_AWARE, "plain": core.DampingDesign.PLAIN}
AXES = {"base": core.TaskAxes.BASE, "end_effector": core.TaskAxes.END_EFFECTOR}


@pytest.fixture(scope="module")
def arm():
    return fr3_arm()


def unlimited(n: int) -> core.LawConfig:
    """Return a configuration whose limits are never met."""
    config = core.LawConfig.for_joints(n)
    config.torque_limit = [1000.0] * n
    config.torque_rate_limit = [1e5] * n
    config.limit_torque_nm = 0.0
    config.gain_ramp_s = 0.0
    return config


def full_stiffness(random: np.random.Generator) -> np.ndarray:
    """Return a random symmetric positive stiffness with coupled axes."""
    scale = np.sqrt(np.array([800.0] * 3 + [40.0] * 3))
    basis, _ = np.linalg.qr(random.normal(size=(6, 6)))
    return scale[:, None] * (basis * random.uniform(0.3, 1.5, 6)) @ basis.T * scale


def random_pose(peer: ReferenceLaw, random: np.random.Generator) -> np.ndarray:
    """Return joint positions from the middle 80 % of every range, away from singularities.

    At a singularity the two formulations lose the digits in which they are compared.
    """
    low, high = peer.model.lowerPositionLimit, peer.model.upperPositionLimit
    while True:
        q = random.uniform(low + 0.1 * (high - low), high - 0.1 * (high - low))
        data = peer.model.createData()
        J = pin.computeFrameJacobian(peer.model, data, q, peer.frame, pin.LOCAL_WORLD_ALIGNED)
        if np.linalg.svd(J, compute_uv=False)[-1] >= 0.05:
            return q


def worst_difference(arm, settings: dict, n_states: int, seed: int) -> float:
    """Return the largest torque difference [N·m] to the formulation in NumPy over random states."""
    random = np.random.default_rng(seed)
    peer_model = pinocchio_model(arm)
    peer = ReferenceLaw(peer_model, peer_model.getFrameId(arm.ee_frame))
    peer.null_stiffness = random.uniform(1, 15, N)
    peer.joint_stiffness = random.uniform(10, 200, N)
    peer.joint_extra = random.uniform(0, 3, N)
    for name, value in settings.items():
        setattr(peer, name, value)
    config = unlimited(N)
    config.kind, config.damping_design = KINDS[peer.kind], DESIGNS[peer.design]
    config.projector, config.axes = PROJECTORS[peer.projector], AXES[peer.axes]
    config.compensate_gravity, config.compensate_coriolis = peer.gravity, peer.coriolis
    config.operational_regularisation = peer.epsilon
    gains = config.gains
    gains.stiffness, gains.damping_ratio = peer.stiffness, peer.ratio
    gains.extra_damping, gains.error_clip = peer.extra, peer.clip
    gains.nullspace_stiffness = list(peer.null_stiffness)
    gains.nullspace_torque_limit_nm = peer.null_limit
    gains.manipulability_gain = peer.manipulability
    gains.joint_stiffness = list(peer.joint_stiffness)
    gains.joint_extra_damping = list(peer.joint_extra)
    config.gains = gains
    law = core.Law(config, build_model(arm))
    worst = 0.0
    for _ in range(n_states):
        q, dq = random_pose(peer, random), random.normal(0, 0.3, N)
        data = peer_model.createData()
        pin.framesForwardKinematics(peer_model, data, q)
        law.q[:], law.dq[:] = q, dq
        law.position[:] = data.oMf[peer.frame].translation + random.normal(0, 0.05, 3)
        R = pin.exp3(random.normal(0, 0.4, 3)) @ data.oMf[peer.frame].rotation
        law.quat_xyzw[:] = matrix_to_quat_xyzw(R)
        law.twist[:], law.acceleration[:] = random.normal(0, 0.2, 6), random.normal(0, 1, 6)
        law.wrench[:] = random.normal(0, 3, 6)
        law.posture[:], law.posture_rate[:] = random.normal(0, 0.5, N), random.normal(0, 0.1, N)
        expected = peer.torque(
            q, dq, law.position, R, law.twist, law.acceleration, law.wrench,
            law.posture, law.posture_rate,
        )  # fmt: skip
        law.reset(list(expected))
        assert law.step(1e-3) == 0
        worst = max(worst, np.abs(law.tau - expected).max())
    return worst


def test_default_torque_equals_the_independent_formulation_on_10000_states(arm):
    assert worst_difference(arm, {}, 10_000, seed=0) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("axes", AXES)
def test_every_law_equals_the_independent_formulation(arm, kind, design, axes):
    settings = {"kind": kind, "design": design, "axes": axes, "ratio": 0.8}
    settings["stiffness"] = full_stiffness(np.random.default_rng(5))
    settings["extra"] = np.array([5.0, 0, 3, 1, 0, 2])
    assert worst_difference(arm, settings, 300, seed=1) < 1e-9


@pytest.mark.parametrize("projector", PROJECTORS)
@pytest.mark.parametrize("null_limit", [1000.0, 2.0])
def test_every_projector_equals_the_independent_formulation(arm, projector, null_limit):
    settings = {"projector": projector, "null_limit": null_limit, "design": "plain"}
    assert worst_difference(arm, settings, 300, seed=2) < 1e-9


@pytest.mark.parametrize(("gravity", "coriolis"), [(False, True), (True, False), (False, False)])
def test_model_terms_can_be_left_to_the_robot(arm, gravity, coriolis):
    settings = {"gravity": gravity, "coriolis": coriolis}
    assert worst_difference(arm, settings, 300, seed=3) < 1e-9


def test_regularised_operational_space_equals_the_independent_formulation(arm):
    settings = {"kind": "operational_space", "epsilon": 0.01}
    # A change of A = J M^-1 J^T in its last digit (150 * 1e-16) comes out 1 / epsilon^2 larger.
    assert worst_difference(arm, settings, 300, seed=4) < 5e-9


def test_manipulability_gradient_equals_finite_differences(arm):
    # Central differences of a logarithm are good to about 1e-8.
    settings = {"manipulability": 1.0, "projector": "none"}
    assert worst_difference(arm, settings, 200, seed=6) < 1e-6


def test_torque_changes_no_faster_than_allowed_at_any_rate(arm):
    config = to_law_config(ControlConfig(torque_rate_limit_nm_s=200.0), arm)
    for dt_s in (0.001, 0.002):
        law = core.Law(config, build_model(arm))
        law.q[:] = HOME
        law.position[:], law.quat_xyzw[:] = (0.9, 0.0, 0.5), (1.0, 0.0, 0.0, 0.0)
        previous = law.tau.copy()
        for _ in range(100):
            law.step(dt_s)
            assert np.abs(law.tau - previous).max() <= 200.0 * dt_s + 1e-12
            previous = law.tau.copy()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position", (np.nan, 0, 0)),
        ("quat_xyzw", (0, 0, 0, 2.0)),
        ("quat_xyzw", (0, np.inf, 0, 1.0)),
        ("twist", (0, 0, 0, 0, 0, np.nan)),
        ("wrench", (np.inf, 0, 0, 0, 0, 0)),
        ("posture", (np.nan, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_bad_reference_has_a_status_and_no_effect_on_the_torque(arm, name, value):
    model = build_model(arm)
    model.update(list(HOME), [0.0] * N)
    laws = [core.Law(unlimited(N), build_model(arm)) for _ in range(2)]
    for law in laws:
        law.q[:] = HOME
        law.position[:], law.quat_xyzw[:] = model.terms()["position"], model.terms()["quat_xyzw"]
        law.position[2] += 0.02
        assert law.step(1e-3) == 0
    getattr(laws[0], name)[:] = value
    assert laws[0].step(1e-3) == 4
    assert laws[1].step(1e-3) == 0
    np.testing.assert_allclose(laws[0].tau, laws[1].tau, atol=1e-12)


def test_a_quaternion_and_its_negative_give_the_same_torque(arm):
    law = core.Law(unlimited(N), build_model(arm))
    law.q[:] = HOME
    law.position[:] = (0.4, 0.1, 0.4)
    taus = []
    for sign in (1.0, -1.0):
        law.reset([0.0] * N)
        law.quat_xyzw[:] = sign * np.array([0.8, 0.1, 0.5, 0.33166247903554])
        for _ in range(20):
            law.step(1e-3)
        taus.append(law.tau.copy())
    np.testing.assert_allclose(*taus, atol=1e-12)


def test_not_finite_measurement_repeats_the_previous_torque(arm):
    law = core.Law(unlimited(N), build_model(arm))
    law.reset([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    law.q[:] = HOME
    law.q[3] = np.nan
    assert law.step(1e-3) == 3
    assert list(law.tau) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


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


def test_stiffness_that_pushes_away_or_is_not_symmetric_is_refused():
    config = unlimited(N)
    gains = config.gains
    coupled = np.diag([100.0] * 3 + [10.0] * 3)
    coupled[0, 1] = coupled[1, 0] = 200.0
    gains.stiffness = coupled
    config.gains = gains
    with pytest.raises(core.Error, match="no negative eigenvalue"):
        config.validate(N)
    coupled[1, 0] = 0.0
    gains.stiffness = coupled
    config.gains = gains
    with pytest.raises(core.Error, match="must be symmetric"):
        config.validate(N)


def test_unknown_frame_is_refused_with_the_known_ones(arm):
    with pytest.raises(core.Error, match="'nowhere' is not in the URDF, which has"):
        core.RobotModel(arm.urdf_xml, list(arm.joint_names), "fr3_link0", "nowhere", [])
