# SPDX-License-Identifier: Apache-2.0
"""The external wrench estimator against forward dynamics of Pinocchio's Python module."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from arm_simulation import ArmSimulation, ur5_arm
from law_reference import pinocchio_model

import vla_ros_core as core
from vla_ros.control.host import build_model
from vla_ros.sim.plant import fr3_arm

pytestmark = pytest.mark.sim

WRENCH = np.array([10.0, -5.0, 8.0, 0.5, -0.4, 0.3])
TIME_CONSTANT_S = 0.02


def describe(name: str):
    return fr3_arm() if name == "fr3" else ur5_arm()


class Rig:
    """A simulated arm under computed torque control, and the estimator that watches it."""

    def __init__(self, name: str, rate_hz: int, *, robot_adds_gravity=False, friction=None) -> None:
        arm = describe(name)
        model = pinocchio_model(arm)
        self.n, self.dt_s, self.t_s = model.nq, 1.0 / rate_hz, 0.0
        self.home = np.array(arm.posture)
        frame = model.getFrameId(arm.ee_frame)
        self.sim = ArmSimulation(model, frame, self.home.copy(), np.zeros(self.n), np.zeros(6))
        self.amplitude_rad = 0.0
        if robot_adds_gravity:
            model.gravity.linear = np.zeros(3)
        config = core.WrenchEstimatorConfig()
        config.time_constant_s = TIME_CONSTANT_S
        config.robot_adds_gravity = robot_adds_gravity
        if friction is not None:
            config.friction = friction
        self.core_model = build_model(arm)
        self.estimator = core.ExternalWrenchEstimator(config, self.core_model)
        self.observe(np.zeros(self.n))

    def observe(self, tau) -> int:
        self.estimator.q[:], self.estimator.dq[:] = self.sim.q, self.sim.dq
        self.estimator.tau[:] = tau
        return self.estimator.step(self.dt_s)

    def tick(self) -> None:
        phase = np.pi * self.t_s
        target = self.home + self.amplitude_rad * (1 - np.cos(phase))
        rate = self.amplitude_rad * np.pi * np.sin(phase)
        data = self.sim.model.createData()
        wanted = 400.0 * (target - self.sim.q) + 40.0 * (rate - self.sim.dq)
        tau = pin.rnea(self.sim.model, data, self.sim.q, self.sim.dq, wanted)
        self.sim.tick(tau, self.dt_s)
        self.t_s += self.dt_s
        self.observe(tau)

    def run(self, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return wrenches (N, 6) and joint torques (N, n) of every tick."""
        wrenches, torques = [], []
        for _ in range(round(duration_s / self.dt_s)):
            self.tick()
            wrenches.append(self.estimator.wrench.copy())
            torques.append(self.estimator.tau_external.copy())
        return np.array(wrenches), np.array(torques)


@pytest.mark.parametrize("name", ["fr3", "ur5"])
@pytest.mark.parametrize("rate_hz", [500, 1000])
@pytest.mark.parametrize(("amplitude_rad", "tolerance"), [(0.0, 1e-6), (0.15, 1e-4)])
def test_a_known_wrench_is_found_on_a_resting_and_on_a_moving_arm(
    name, rate_hz, amplitude_rad, tolerance
):
    rig = Rig(name, rate_hz)
    rig.amplitude_rad = amplitude_rad
    rig.run(0.3)
    rig.sim.wrench = WRENCH
    rig.run(0.7)
    wrenches, _ = rig.run(0.5)
    assert np.abs(wrenches - WRENCH).max() < tolerance
    if amplitude_rad:
        assert np.abs(rig.sim.q - rig.home).max() > 0.1


@pytest.mark.parametrize("rate_hz", [500, 1000])
def test_the_answer_to_a_step_has_the_stated_time_constant_at_any_rate(rate_hz):
    rig = Rig("fr3", rate_hz)
    rig.sim.wrench = WRENCH
    wrenches, torques = rig.run(5 * TIME_CONSTANT_S)
    t_s = rig.dt_s * np.arange(1, len(wrenches) + 1)
    expected = 1 - np.exp(-t_s / TIME_CONSTANT_S)
    np.testing.assert_allclose(wrenches, np.outer(expected, WRENCH), atol=5e-4)
    tau = rig.sim.jacobian(rig.sim.q).T @ WRENCH
    np.testing.assert_allclose(torques, np.outer(expected, tau), atol=0.03)  # J moves a little


@pytest.mark.parametrize("rate_hz", [500, 1000])
@pytest.mark.parametrize("robot_adds_gravity", [False, True])
def test_nothing_is_felt_and_nothing_drifts_while_the_arm_moves_freely(rate_hz, robot_adds_gravity):
    rig = Rig("fr3", rate_hz, robot_adds_gravity=robot_adds_gravity)
    rig.amplitude_rad = 0.15
    first, _ = rig.run(2.0)
    rig.run(4.0)
    last, torques = rig.run(2.0)
    # The motion repeats itself every two seconds: a drift would show.
    assert np.abs(last).max() < 3e-4
    assert np.abs(first - last).max() < 3e-4
    assert np.abs(torques).max() < 3e-4


def friction_model(n: int) -> core.FrictionModel:
    friction = core.FrictionModel()
    friction.a, friction.b, friction.c = [1.5] * n, [20.0] * n, [0.01] * n
    return friction


def friction_torque(dq: np.ndarray) -> np.ndarray:
    return 1.5 / (1 + np.exp(-20.0 * (dq + 0.01))) - 1.5 / (1 + np.exp(-0.2))


def test_unknown_friction_is_a_bias_of_minus_the_friction_and_known_friction_none():
    biases = []
    for friction in (None, friction_model(7)):
        rig = Rig("fr3", 1000, friction=friction)
        rig.sim.friction = friction_torque
        rig.amplitude_rad = 0.15
        rig.run(0.3)
        _, torques = rig.run(0.2)
        biases.append((torques[-1], friction_torque(rig.sim.dq)))
    (unknown, friction_nm), (known, _) = biases
    assert np.abs(friction_nm).max() > 0.3
    # The friction changes by 3 N·m/s, so that the low-pass lags by up to 3 * 0.02 N·m.
    np.testing.assert_allclose(unknown, -friction_nm, atol=0.06)
    assert np.abs(known).max() < 3e-3


def test_a_payload_that_the_model_lacks_is_felt_as_its_weight():
    rig = Rig("fr3", 1000)
    model, frame = rig.sim.model, rig.sim.frame
    body = pin.Inertia(0.5, np.zeros(3), np.zeros((3, 3)))
    model.appendBodyToJoint(model.frames[frame].parentJoint, body, model.frames[frame].placement)
    wrenches, _ = rig.run(2.0)
    np.testing.assert_allclose(wrenches[-1][:3], [0, 0, -0.5 * 9.81], atol=5e-3)
    rig.core_model.set_payload(0.5, np.zeros(3), np.zeros((3, 3)))
    wrenches, _ = rig.run(0.5)
    assert np.abs(wrenches[-1]).max() < 5e-3


def settled_wrench(rig: Rig, q: np.ndarray, tau_external: np.ndarray) -> np.ndarray:
    """Return the wrench for an arm at rest that only an external torque and gravity hold."""
    rig.sim.q, rig.sim.dq = q, np.zeros(rig.n)
    tau = rig.sim.gravity() - tau_external
    rig.estimator.reset()
    for _ in range(2000):
        rig.observe(tau)
    np.testing.assert_allclose(rig.estimator.tau_external, tau_external, atol=1e-9)
    return rig.estimator.wrench.copy()


def test_wrench_is_the_dynamically_consistent_inverse_of_the_torque():
    random = np.random.default_rng(0)
    rig = Rig("fr3", 1000)
    for _ in range(20):
        q = rig.home + random.normal(0, 0.2, rig.n)
        tau = random.normal(0, 2, rig.n)
        M = pin.crba(rig.sim.model, rig.sim.model.createData(), q)
        M = np.triu(M) + np.triu(M, 1).T
        J = rig.sim.jacobian(q)
        inverse = np.linalg.inv(M)
        expected = np.linalg.solve(J @ inverse @ J.T, J @ inverse @ tau)
        np.testing.assert_allclose(settled_wrench(rig, q, tau), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["fr3", "ur5"])
def test_wrench_stays_within_its_bound_at_and_around_a_singularity(name):
    random = np.random.default_rng(1)
    rig = Rig(name, 1000)
    for distance_rad in (0.0, 1e-9, 1e-6, 1e-4, 1e-2, 0.1):
        q = rig.home.copy()
        if name == "ur5":
            q[2], q[4] = distance_rad, distance_rad  # stretched, and wrist axes in line
        else:
            q[[1, 3, 5]] = [0.0, -distance_rad, distance_rad]
        tau = random.normal(0, 2, rig.n)
        M = pin.crba(rig.sim.model, rig.sim.model.createData(), q)
        M = np.triu(M) + np.triu(M, 1).T
        wrench = settled_wrench(rig, q, tau) / np.array([1, 1, 1, 0.3, 0.3, 0.3])
        assert np.linalg.norm(wrench) <= np.sqrt(100.0 * tau @ np.linalg.solve(M, tau))


def test_bad_input_and_gaps_keep_the_estimate_and_nothing_jumps():
    rig = Rig("fr3", 1000)
    rig.sim.wrench = WRENCH
    rig.run(0.5)
    before = rig.estimator.wrench.copy()
    tau = rig.estimator.tau.copy()
    rig.estimator.dq[2] = np.nan
    assert rig.estimator.step(1e-3) == 2
    rig.estimator.dq[2] = 0.0
    rig.estimator.q[0] = np.inf
    assert rig.estimator.step(1e-3) == 2
    assert rig.observe(tau) == 1
    for dt_s in (0.0, -1e-3, 0.06, np.nan):
        assert rig.estimator.step(dt_s) == 2
    rig.sim.dq = rig.sim.dq + 1.0  # after a gap, a jump of the velocity is no force
    assert rig.observe(tau) == 1
    np.testing.assert_array_equal(rig.estimator.wrench, before)
    assert rig.observe(tau) == 0
    rig.estimator.reset()
    assert not rig.estimator.wrench.any()
    assert not rig.estimator.tau_external.any()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("time_constant_s", -1.0, "time_constant_s must be between 0 and 5, got -1"),
        ("time_constant_s", float("nan"), "time_constant_s must be between"),
        ("largest_mass_kg", 0.0, "largest_mass_kg must be between 1 and 10000, got 0"),
        ("length_m", 0.0, "length_m must be between"),
        ("max_step_s", 1.0, "max_step_s must be between"),
        ("friction", friction_model(6), "friction.a needs 7 values, got 6"),
    ],
)
def test_settings_out_of_range_are_refused_by_name_value_and_range(field, value, message):
    config = core.WrenchEstimatorConfig()
    setattr(config, field, value)
    with pytest.raises(core.Error, match=message):
        core.ExternalWrenchEstimator(config, build_model(fr3_arm()))
