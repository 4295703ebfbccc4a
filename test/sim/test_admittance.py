# SPDX-License-Identifier: Apache-2.0
"""The virtual body of the admittance law and how the arm follows it."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from admittance_rig import ARMS, OK, RATES_HZ, VIRTUAL_LIMITED, Rig

pytestmark = pytest.mark.sim

# Joints so fast that they never limit the body that is tested.
FAST = {"velocity_limit": [50.0] * 7, "acceleration_limit": [1000.0] * 7}


def fast_rig(rate_hz: int, **changes: dict[str, object]) -> Rig:
    return Rig("fr3", rate_hz, joints=FAST, **changes)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_10_newton_on_200_newton_per_metre_move_the_arm_by_50_mm(name, rate_hz):
    rig = Rig(name, rate_hz)
    start = rig.placement()
    rig.law.wrench[0] = 10.0
    rig.run(6.0)
    moved_mm = 1e3 * (rig.placement().translation - start.translation)
    np.testing.assert_allclose(moved_mm, [50.0, 0.0, 0.0], atol=1e-3)
    assert np.abs(pin.log3(rig.placement().rotation @ start.rotation.T)).max() < 1e-6
    assert np.abs(rig.law.dq).max() < 1e-5
    rig.law.wrench[0] = 0.0
    rig.run(6.0)
    np.testing.assert_allclose(rig.placement().translation, start.translation, atol=1e-6)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_without_a_wrench_nothing_drifts(name, rate_hz):
    rig = Rig(name, rate_hz)
    assert rig.run(20.0) == {OK}
    np.testing.assert_allclose(rig.law.q, rig.arm.posture, atol=1e-12)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_answer_to_a_step_is_the_analytic_one_with_damping_ratio_1_77(rate_hz):
    rig = fast_rig(rate_hz)
    rig.law.wrench[1] = 10.0
    x = [0.0]
    for _ in range(rate_hz):
        rig.law.step(rig.dt_s)
        x.append(rig.law.offset[1])
    t_s = rig.dt_s * np.arange(len(x))
    slow, fast = -25 + np.sqrt(625 - 200), -25 - np.sqrt(625 - 200)
    expected = 0.05 * (1 + (fast * np.exp(slow * t_s) - slow * np.exp(fast * t_s)) / (slow - fast))
    np.testing.assert_allclose(x, expected, atol=1e-12)
    # From the samples alone: e(k+2) = a e(k+1) + b e(k) has the poles of the body.
    e = 0.05 - np.array(x)[: rate_hz // 4]
    a, b = np.linalg.lstsq(np.column_stack([e[1:-1], e[:-2]]), e[2:], rcond=None)[0]
    poles = np.log(np.roots([1.0, -a, -b])) / rig.dt_s
    ratio = -poles.sum() / (2 * np.sqrt(poles.prod()))
    assert ratio == pytest.approx(50 / (2 * np.sqrt(200)), abs=1e-3)


def random_symmetric(random: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return a full positive matrix whose diagonal is drawn from ranges on a log scale."""
    size = np.exp(random.uniform(np.log(low), np.log(high)))
    basis, _ = np.linalg.qr(random.normal(size=(6, 6)))
    part = (basis * random.uniform(0.2, 1.0, 6)) @ basis.T
    part /= np.sqrt(np.outer(np.diag(part), np.diag(part)))
    return np.sqrt(np.outer(size, size)) * (part + part.T) / 2


def exact_step(body, dt_s: float, x: np.ndarray, v: np.ndarray, w: np.ndarray):
    """Return offset and rate after a step, from the eigenvectors of the companion matrix."""
    M, K, D = body.mass, body.stiffness, body.damping_in_force
    scale = np.sqrt(np.diag(M))
    L, R = np.diag(1 / scale), np.diag(scale)
    Mi = np.linalg.inv(L @ M @ L)
    A = np.block([[np.zeros((6, 6)), np.eye(6)], [-Mi @ L @ K @ L, -Mi @ L @ D @ L]])
    rest = np.linalg.solve(K, w)
    values, vectors = np.linalg.eig(A)
    state = np.concatenate([R @ (x - rest), R @ v])
    after = np.real(vectors @ (np.exp(values * dt_s) * np.linalg.solve(vectors, state)))
    return L @ after[:6] + rest, L @ after[6:]


LOW = np.array([1.0] * 3 + [0.1] * 3)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_every_allowed_body_moves_as_its_equation_says_and_stays_stable(rate_hz):
    random = np.random.default_rng(3)
    for _ in range(40):
        mass = random_symmetric(random, 0.1 * LOW, 100 * LOW)
        stiffness = random_symmetric(random, 10 * LOW, 5000 * LOW)
        damping = random_symmetric(random, 10 * LOW, 5000 * LOW)
        body = {"mass": mass, "stiffness": stiffness, "damping": damping}
        rig = fast_rig(rate_hz, body=body, limits={"speed_m_s": 3.0, "speed_rad_s": 10.0})
        # Forces only, and small: the offset stays small and the body linear.
        w = np.concatenate([random.normal(0, 0.2, 3), np.zeros(3)])
        x, v = np.zeros(6), np.zeros(6)
        rig.law.wrench[:] = w
        for k in range(60):
            if k == 30:
                w = np.zeros(6)
                rig.law.wrench[:] = 0.0
                energy = np.inf
            rig.law.step(rig.dt_s)
            x, v = exact_step(rig.config.body, rig.dt_s, x, v, w)
            scale = np.abs(x).max() + 1e-9
            np.testing.assert_allclose(rig.law.offset, x, atol=1e-7 * scale)
            if k >= 30:
                y, u = rig.law.offset, rig.law.offset_rate
                now = y @ stiffness @ y + u @ mass @ u
                assert now <= energy * (1 + 1e-9)
                energy = now


def test_the_stiffest_and_lightest_body_comes_to_rest_at_125_hz():
    light = np.diag([0.1] * 3 + [0.01] * 3)
    stiff = np.diag([5000.0] * 3 + [500.0] * 3)
    for damping in (np.zeros((6, 6)) + 0.1 * light, stiff):
        body = {"mass": light, "stiffness": stiff, "damping": damping}
        rig = fast_rig(125, body=body, limits={"offset_m": 1.0, "speed_m_s": 3.0})
        rig.law.wrench[:] = [5, 0, 0, 0, 0, 0.5]
        peak = 0.0
        for _ in range(125 * 20):
            rig.law.step(0.008)
            peak = max(peak, abs(rig.law.offset[0]))
        assert peak <= 2 * 5 / 5000 * (1 + 1e-9)


def test_damping_ratio_holds_in_every_mode_of_a_coupled_body():
    random = np.random.default_rng(4)
    body = {
        "mass": random_symmetric(random, 0.5 * LOW, 5 * LOW),
        "stiffness": random_symmetric(random, 50 * LOW, 500 * LOW),
        "damping_ratio": 0.7,
    }
    inner = Rig("fr3", 1000, body=body).config.body
    M, K, D = inner.mass, inner.stiffness, inner.damping_in_force
    A = np.block([[np.zeros((6, 6)), np.eye(6)], [-np.linalg.solve(M, K), -np.linalg.solve(M, D)]])
    poles = np.linalg.eigvals(A)
    np.testing.assert_allclose(-poles.real / np.abs(poles), 0.7, atol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_torque_turns_the_arm_by_torque_over_stiffness_about_its_axis(rate_hz):
    rig = Rig("fr3", rate_hz)
    start = rig.placement()
    rig.law.wrench[3:] = [0.0, 2.0, 1.0]
    rig.run(6.0)
    turned = pin.log3(rig.placement().rotation @ start.rotation.T)
    np.testing.assert_allclose(turned, [0.0, 0.2, 0.1], atol=1e-5)
    np.testing.assert_allclose(rig.placement().translation, start.translation, atol=1e-5)


def test_a_torque_across_unequal_stiffness_settles_where_its_power_balances_the_spring():
    stiffness = np.diag([200.0] * 3 + [3.0, 10.0, 30.0])
    rig = fast_rig(500, body={"stiffness": stiffness}, limits={"offset_rad": 2.5})
    torque = np.array([2.0, 6.0, -9.0])
    rig.law.wrench[3:] = torque
    rig.run(20.0)
    phi = rig.law.offset[3:].copy()
    # K phi' = torque . omega for every small phi': omega by differences of the rotation.
    power = []
    for step in 1e-6 * np.eye(3):
        omega = pin.log3(pin.exp3(phi + step) @ pin.exp3(phi - step).T) / 2e-6
        power.append(torque @ omega)
    np.testing.assert_allclose(stiffness[3:, 3:] @ phi, power, atol=1e-6)
    assert np.abs(np.array(power) - torque).max() > 0.5  # it is not the torque itself


def test_the_body_gives_out_no_more_energy_than_the_wrench_puts_in():
    random = np.random.default_rng(5)
    stiffness = np.diag([200.0] * 3 + [2.0, 10.0, 30.0])
    body = {"stiffness": stiffness, "damping": np.diag([1.0] * 3 + [0.02] * 3)}
    limits = {"offset_rad": 2.5, "speed_rad_s": 10.0, "speed_m_s": 3.0, "offset_m": 2.0}
    rig = fast_rig(1000, body=body, limits=limits)
    mass = rig.config.body.mass
    work_j, largest_rad = 0.0, 0.0
    R, p = np.eye(3), np.zeros(3)
    for k in range(5000):
        if k % 200 == 0:
            rig.law.wrench[:] = random.normal(0, [2, 2, 2, 1, 1, 1])
        rig.law.step(1e-3)
        x, v = rig.law.offset, rig.law.offset_rate
        R_new = pin.exp3(x[3:])
        work_j += rig.law.wrench[:3] @ (x[:3] - p) + rig.law.wrench[3:] @ pin.log3(R_new @ R.T)
        R, p = R_new, x[:3].copy()
        largest_rad = max(largest_rad, np.linalg.norm(x[3:]))
        # The wrench is pulled back at the begin of a tick: 1 % covers its error over a tick.
        assert 0.5 * (v @ mass @ v + x @ stiffness @ x) <= work_j * 1.01 + 1e-9
    assert largest_rad > 0.5


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_moving_reference_is_followed_without_lag(rate_hz):
    rig = Rig("fr3", rate_hz)
    start = rig.placement()
    velocity, omega = np.array([0.05, -0.03, 0.04]), np.array([0.0, 0.1, 0.15])
    rig.law.wrench[:] = [4, 0, 0, 0, 0, 1.0]
    worst = [0.0, 0.0]
    for k in range(2 * rate_hz):
        # Twist and pose of now; the command is for the end of the tick.
        rig.law.twist[:] = [*velocity, *omega]
        rig.law.position[:] = start.translation + k * rig.dt_s * velocity
        turned = pin.exp3(k * rig.dt_s * omega) @ start.rotation
        rig.law.quat_xyzw[:] = pin.Quaternion(turned).coeffs()
        rig.law.step(rig.dt_s)
        if k * rig.dt_s < 1.0:
            continue
        ahead = (k + 1) * rig.dt_s
        x = rig.law.offset
        wanted = start.translation + ahead * velocity + x[:3]
        R = pin.exp3(x[3:]) @ pin.exp3(ahead * omega) @ start.rotation
        worst[0] = max(worst[0], np.abs(rig.placement().translation - wanted).max())
        worst[1] = max(worst[1], np.abs(pin.log3(rig.placement().rotation @ R.T)).max())
    assert worst[0] < 1e-4
    assert worst[1] < 2e-4


def test_speed_and_offset_of_the_body_are_limited_with_their_direction_kept():
    limits = {"speed_m_s": 0.1, "offset_m": 0.04, "speed_rad_s": 0.3, "offset_rad": 0.2}
    rig = fast_rig(500, limits=limits)
    rig.law.wrench[:] = [90, 60, 0, 0, 6, 8]
    fastest, previous = np.zeros(2), np.zeros(6)
    for k in range(1000):
        status = rig.law.step(rig.dt_s)
        x = rig.law.offset.copy()
        rate = (x - previous) / rig.dt_s
        fastest = np.maximum(fastest, [np.linalg.norm(rate[:3]), np.linalg.norm(rate[3:])])
        previous = x
        if k > 0:
            np.testing.assert_allclose(
                x[:3] / np.linalg.norm(x[:3]), [0.832050, 0.554700, 0], atol=1e-5
            )
            np.testing.assert_allclose(x[3:] / np.linalg.norm(x[3:]), [0, 0.6, 0.8], atol=1e-6)
    np.testing.assert_allclose(fastest, [0.1, 0.3], rtol=1e-6)
    assert np.linalg.norm(x[:3]) == pytest.approx(0.04)
    assert np.linalg.norm(x[3:]) == pytest.approx(0.2)
    assert status == VIRTUAL_LIMITED
    # No wind-up: as soon as the push ends the body comes back.
    rig.law.wrench[:] = 0.0
    for _ in range(5):
        rig.law.step(rig.dt_s)
    assert np.linalg.norm(rig.law.offset[:3]) < 0.04


def test_dead_band_is_taken_off_the_length_and_the_low_pass_has_its_time_constant():
    wrench = {"force_dead_band_n": 2.0, "torque_dead_band_nm": 0.3, "time_constant_s": 0.05}
    for rate_hz in RATES_HZ:
        rig = Rig("fr3", rate_hz, wrench=wrench | {"max_force_n": 20.0})
        rig.law.wrench[:] = [1.2, -1.5, 0.0, 0.2, 0.2, 0.0]
        rig.run(0.4)
        assert not rig.law.wrench_felt.any()
        rig.law.wrench[:] = [3.0, 4.0, 0.0, 0.0, 0.0, -1.3]
        rig.run(0.2)
        expected = np.array([1.8, 2.4, 0, 0, 0, -1.0]) * (1 - np.exp(-0.2 / 0.05))
        np.testing.assert_allclose(rig.law.wrench_felt, expected, atol=1e-12)
        rig.law.wrench[:] = [0.0, 0.0, -1e6, 0.0, 0.0, 0.0]
        rig.run(1.0)
        np.testing.assert_allclose(rig.law.wrench_felt[:3], [0, 0, -20.0], atol=1e-6)


def test_a_new_configuration_takes_effect_without_a_jump():
    rig = Rig("fr3", 500)
    rig.law.wrench[0] = 10.0
    rig.run(3.0)
    previous = rig.law.dq.copy()
    body = rig.config.body
    body.stiffness = 2 * body.stiffness
    rig.config.body = body
    rig.law.apply(rig.config)
    for _ in range(2000):
        rig.law.step(rig.dt_s)
        assert np.abs(rig.law.dq - previous).max() <= 10.0 * rig.dt_s * (1 + 1e-9)
        previous = rig.law.dq.copy()
    assert rig.law.offset[0] == pytest.approx(0.025, abs=1e-6)
