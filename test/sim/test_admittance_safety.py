# SPDX-License-Identifier: Apache-2.0
"""Limits of the joints, singular poses and bad input of the admittance law."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from admittance_rig import (
    ARMS,
    BAD_REFERENCE,
    BAD_WRENCH,
    JOINT_LIMITED,
    NOT_FINITE,
    OK,
    RATES_HZ,
    STALE_WRENCH,
    Rig,
)  # fmt: skip

pytestmark = pytest.mark.sim

VELOCITY_LIMIT, ACCELERATION_LIMIT, MARGIN = 1.0, 10.0, 0.02


def position_limits(rig: Rig, margin_rad: float = MARGIN) -> tuple[np.ndarray, np.ndarray]:
    return rig.model.lowerPositionLimit + margin_rad, rig.model.upperPositionLimit - margin_rad


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_no_input_makes_a_joint_leave_its_limits(name, rate_hz):
    random = np.random.default_rng(7)
    limits = {"offset_m": 2.0, "speed_m_s": 3.0, "offset_rad": 2.5, "speed_rad_s": 10.0}
    rig = Rig(name, rate_hz, limits=limits, joints={"tracking_gain_1_s": 50.0})
    low, high = position_limits(rig)
    q, dq = rig.law.q.copy(), rig.law.dq.copy()
    nearest = np.inf
    for k in range(20 * rate_hz):
        if k % rate_hz == 0:
            rig.law.wrench[:] = random.normal(0, [100, 100, 100, 20, 20, 20])
            rig.law.position[:] = random.uniform(-1.5, 1.5, 3)
            rig.law.quat_xyzw[:] = pin.Quaternion(pin.exp3(random.normal(0, 2, 3))).coeffs()
            rig.law.twist[:] = random.normal(0, 1, 6)
            rig.law.posture[:] = random.uniform(-5, 5, len(q))
        rig.law.step(rig.dt_s)
        assert np.abs(rig.law.dq).max() <= VELOCITY_LIMIT * (1 + 1e-12)
        assert np.abs(rig.law.dq - dq).max() <= ACCELERATION_LIMIT * rig.dt_s * (1 + 1e-9)
        assert (rig.law.q >= low).all()
        assert (rig.law.q <= high).all()
        np.testing.assert_allclose(rig.law.q, q + rig.dt_s * rig.law.dq, rtol=0, atol=1e-15)
        q, dq = rig.law.q.copy(), rig.law.dq.copy()
        nearest = min(nearest, (q - low).min(), (high - q).min())
    assert nearest < 1e-3 or name == "ur5"  # the FR3 was driven into its limits


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_that_is_too_slow_moves_in_the_wanted_direction(name):
    rig = Rig(name, 500, joints={"velocity_limit": [0.02] * (7 if name == "fr3" else 6)})
    start = rig.placement()
    rig.law.wrench[:3] = [15, -9, 12]
    rig.run(0.5)
    assert rig.law.step(rig.dt_s) == JOINT_LIMITED
    moved = rig.placement().translation - start.translation
    assert np.linalg.norm(moved) > 1e-3
    direction = np.array([15, -9, 12]) / np.linalg.norm([15, -9, 12])
    assert moved @ direction / np.linalg.norm(moved) > 0.999
    assert np.abs(rig.law.dq).max() == pytest.approx(0.02)


def test_posture_is_reached_without_moving_the_end_effector():
    rig = Rig("fr3", 500)
    start = rig.placement()
    rig.law.posture[:] = rig.law.q + np.array([0.4, 0, -0.4, 0, 0, 0, 0])
    before = rig.law.q.copy()
    worst_mm = 0.0
    for _ in range(4000):
        rig.law.step(rig.dt_s)
        moved = rig.placement().translation - start.translation
        worst_mm = max(worst_mm, 1e3 * np.abs(moved).max())
    assert np.abs(rig.law.q - before).max() > 0.2
    assert worst_mm < 0.01
    # What is left of the pull cannot be had without moving the end effector.
    data = rig.model.createData()
    J = pin.computeFrameJacobian(rig.model, data, rig.law.q, rig.frame, pin.LOCAL_WORLD_ALIGNED)
    left = (np.eye(7) - np.linalg.pinv(J) @ J) @ (rig.law.posture - rig.law.q)
    assert np.abs(left).max() < 1e-3


def test_seven_joints_stay_compliant_with_one_at_its_limit():
    rig = Rig("fr3", 500, joints={"position_margin_rad": 0.5})
    start = rig.placement().translation
    rig.law.posture[0] = 5.0  # self-motion, until a limit stops it
    rig.run(20.0)
    low, high = position_limits(rig, 0.5)
    assert min((rig.law.q - low).min(), (high - rig.law.q).min()) < 1e-3
    np.testing.assert_allclose(rig.placement().translation, start, atol=1e-5)
    for axis in range(3):
        rig.law.wrench[:3] = 10.0 * np.eye(3)[axis]
        rig.run(6.0)
        moved = rig.placement().translation - start
        np.testing.assert_allclose(moved, 0.05 * np.eye(3)[axis], atol=1e-4)
        assert (rig.law.q >= low).all()


def test_an_arm_that_was_sent_beyond_its_reach_comes_back():
    for name in ARMS:
        rig = Rig(name, 500)
        home = rig.placement()
        for direction in ([1, 0, 0], [0, 0, -1], [-1, 0, 0], [0, -1, 1]):
            rig.law.position[:] = home.translation + 2.0 * np.array(direction)
            rig.run(10.0)
            rig.law.position[:] = home.translation
            rig.run(25.0)
            np.testing.assert_allclose(
                rig.placement().translation, home.translation, atol=1e-4, err_msg=f"{name}"
            )


@pytest.mark.parametrize(("name", "joint"), [("fr3", 3), ("ur5", 2), ("ur5", 4)])
def test_a_singular_pose_gives_bounded_joint_speeds_and_a_way_back(name, joint):
    fast = {"velocity_limit": [100.0] * 7, "acceleration_limit": [1000.0] * 7}
    fast = {key: value[: 7 if name == "fr3" else 6] for key, value in fast.items()}
    rig = Rig(name, 500, joints=fast)
    for distance_rad in (0.0, 1e-6, 1e-3, 0.05):
        q = np.array(rig.arm.posture)
        q[joint] = -distance_rad - (0.07 if name == "fr3" else 0.0)
        rig.law.reset(list(q))
        rig.law.posture[:] = q
        start = rig.placement().translation
        for push in ([30, 0, 0], [0, 30, 0], [0, 0, 30]):
            rig.law.wrench[:] = [*push, 1.0, 1.0, 1.0]
            for _ in range(500):
                rig.law.step(rig.dt_s)
                # |u| is at most 0.25 + 0.2 m/s and 0.3 * (1 + 0.8) rad/s: over 0.05 m/rad.
                assert np.linalg.norm(rig.law.dq) <= np.hypot(0.45, 0.54) / 0.05
        rig.law.wrench[:] = 0.0
        rig.run(10.0)
        assert np.linalg.norm(rig.placement().translation - start) < 0.005


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_first_command_after_a_reset_is_continuous(rate_hz):
    rig = Rig("fr3", rate_hz)
    rig.law.wrench[:] = 5.0
    rig.run(1.0)
    q = np.array(rig.arm.posture) + 0.1
    far = rig.law.position + 0.3
    rig.law.reset(list(q))
    np.testing.assert_array_equal(rig.law.q, q)
    assert not rig.law.dq.any()
    assert not rig.law.offset.any()
    assert not rig.law.wrench_felt.any()
    np.testing.assert_allclose(rig.law.position, rig.placement(q).translation, atol=1e-12)
    rig.law.position[:] = far
    rig.law.wrench[:] = 50.0
    rig.law.step(rig.dt_s)
    assert np.abs(rig.law.q - q).max() <= ACCELERATION_LIMIT * rig.dt_s**2 * (1 + 1e-9)


BAD_REFERENCES = [
    ("position", [np.nan, 0, 0]),
    ("quat_xyzw", [0, 0, 0, 2.0]),
    ("quat_xyzw", [0, 0, np.inf, 1.0]),
    ("twist", [0, 0, 0, np.nan, 0, 0]),
    ("posture", [np.inf] * 7),
]


@pytest.mark.parametrize(("field", "value"), BAD_REFERENCES)
def test_a_bad_reference_leaves_the_last_good_one_in_force(field, value):
    rig, peer = Rig("fr3", 500), Rig("fr3", 500)
    for r in (rig, peer):
        r.law.position[:] += [0.05, 0.0, -0.05]
        r.law.wrench[2] = 5.0
        r.run(0.5)
    getattr(rig.law, field)[:] = value
    for _ in range(500):
        assert rig.law.step(rig.dt_s) == BAD_REFERENCE
        peer.law.step(peer.dt_s)
        np.testing.assert_allclose(rig.law.q, peer.law.q, atol=1e-12)


def test_without_any_good_reference_the_arm_stays_where_it_is():
    rig = Rig("fr3", 500)
    rig.law.position[:] = np.nan
    assert rig.run(1.0) == {BAD_REFERENCE}
    np.testing.assert_allclose(rig.law.q, rig.arm.posture, atol=1e-12)


def test_a_quaternion_and_its_negative_give_the_same_command():
    rigs = [Rig("fr3", 500), Rig("fr3", 500)]
    for rig, sign in zip(rigs, (1.0, -1.0), strict=True):
        rig.law.quat_xyzw[:] = (
            sign
            * pin.Quaternion(
                pin.exp3(np.array([0.0, 0.2, 0.1])) @ rig.placement().rotation
            ).coeffs()
        )
        rig.run(0.5)
    np.testing.assert_allclose(rigs[0].law.q, rigs[1].law.q, atol=1e-12)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"wrench": [np.nan, 0, 0, 0, 0, 0]}, BAD_WRENCH),
        ({"wrench": [0, 0, 0, 0, np.inf, 0]}, BAD_WRENCH),
        ({"wrench_age_s": np.nan}, BAD_WRENCH),
        ({"wrench_age_s": -0.01}, BAD_WRENCH),
        ({"wrench_age_s": 0.11}, STALE_WRENCH),
        ({"wrench_age_s": np.inf}, STALE_WRENCH),
    ],
)
def test_a_bad_or_old_wrench_decays_to_zero_and_the_arm_goes_home(rate_hz, change, status):
    rig = Rig("fr3", rate_hz)
    home = rig.placement().translation
    rig.law.wrench[:3] = [10.0, -5.0, 0.0]
    rig.law.wrench_age_s = 0.1
    rig.run(3.0)
    assert rig.law.wrench_felt[0] == 10.0
    if "wrench" in change:
        rig.law.wrench[:] = change["wrench"]
    else:
        rig.law.wrench_age_s = change["wrench_age_s"]
    assert rig.run(0.1) == {status}
    assert rig.law.wrench_felt[0] == pytest.approx(10.0 * np.exp(-1.0), rel=0.05)
    rig.run(5.0)
    assert np.abs(rig.law.wrench_felt).max() < 1e-9
    np.testing.assert_allclose(rig.placement().translation, home, atol=1e-6)
    rig.law.wrench[:], rig.law.wrench_age_s = 0.0, 0.0
    assert rig.law.step(rig.dt_s) == OK


def test_a_step_of_impossible_length_changes_nothing():
    rig = Rig("fr3", 500)
    rig.law.wrench[0] = 10.0
    rig.run(0.3)
    q, dq = rig.law.q.copy(), rig.law.dq.copy()
    for dt_s in (0.0, -1e-3, 0.2, np.nan):
        assert rig.law.step(dt_s) == NOT_FINITE
    np.testing.assert_array_equal(rig.law.q, q)
    np.testing.assert_array_equal(rig.law.dq, dq)
