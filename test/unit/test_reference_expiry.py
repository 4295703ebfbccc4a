# SPDX-License-Identifier: Apache-2.0
"""Old rows are passed more slowly, those of an old instruction end, none outlives its expiry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ControlMode

DT_S = 1e-3
START_NS = 10 * NS_PER_S
NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])
RADIUS_M = 0.2
SPEED_M_S = 0.3


def at_s(t_s: float) -> int:
    return START_NS + round(t_s * 1e9)


def circle(t: np.ndarray) -> np.ndarray:
    angle = SPEED_M_S / RADIUS_M * np.asarray(t)
    return RADIUS_M * np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=-1)


def circle_speed(t: np.ndarray) -> np.ndarray:
    angle = SPEED_M_S / RADIUS_M * np.asarray(t)
    return SPEED_M_S * np.stack([-np.sin(angle), np.cos(angle), 0.0 * angle], axis=-1)


class Rig:
    """A reference that follows a circle, in virtual time from ``START_NS``."""

    def __init__(self) -> None:
        config = core.ReferenceConfig()
        config.max_speed_m_s, config.brake_m_s2 = 3.0, 3.0
        self.made = core.ReferenceGenerator(config)
        self.made.reset(circle(0.0), NO_TURN)
        self.tick = 0
        self.times: list[float] = []
        self.positions: list[np.ndarray] = []
        self.speeds: list[float] = []
        self.modes: list[int] = []
        self.scales: list[float] = []

    @property
    def now_s(self) -> float:
        return self.tick * DT_S

    def accept(self, *, until_s=1.0, soft_s=0.0, shift_s=0.0, from_s=0.0, **stamp) -> None:
        """Rows of the circle at 30 Hz; ``shift_s``: how far along it they begin."""
        times = from_s + np.arange(60) / 30.0
        twists = np.zeros((60, 6))
        twists[:, :3] = circle_speed(times + shift_s)
        reason = self.made.accept(
            [at_s(t) for t in times],
            circle(times + shift_s),
            np.tile(NO_TURN, (60, 1)),
            twists,
            at_s(until_s),
            at_s(self.now_s),
            soft_expire_ns=at_s(soft_s) if soft_s else 0,
            **stamp,
        )
        assert reason == ""

    def run(self, until_s: float, step: int = 1) -> None:
        while self.now_s < until_s - 1e-9:
            self.tick += step
            pose = self.made.position, self.made.quat_xyzw
            self.made.update(at_s(self.now_s), step * DT_S, *pose)
            self.times.append(self.now_s)
            self.positions.append(self.made.position)
            self.speeds.append(float(np.linalg.norm(self.made.twist[:3])))
            self.modes.append(self.made.mode)
            self.scales.append(self.made.speed_scale)

    def start(self, **segment) -> None:
        """Be in motion on the circle, the start from rest faded out."""
        self.accept(until_s=50.0)
        self.run(0.4)
        self.accept(**segment)


def row_time(t: np.ndarray, soft: float, hard: float) -> np.ndarray:
    aged = np.clip(np.asarray(t) - soft, 0.0, hard - soft)
    return np.minimum(t, soft) + aged - aged**2 / (2 * (hard - soft))


def test_rows_are_passed_ever_more_slowly_between_soft_and_hard_expiry():
    rig = Rig()
    rig.start(soft_s=0.6, until_s=1.2, capture_ns=7)
    rig.run(1.2)
    t = np.array(rig.times)
    late = t > 0.65
    wanted = circle(row_time(t, 0.6, 1.2))
    assert np.abs(np.array(rig.positions) - wanted)[late].max() < 1e-4
    scale = 1.0 - np.clip(t - 0.6, 0.0, None) / 0.6
    np.testing.assert_allclose(np.array(rig.scales)[t > 0.4], scale[t > 0.4], atol=1e-9)
    np.testing.assert_allclose(np.array(rig.speeds)[late], SPEED_M_S * scale[late], atol=1e-3)
    assert rig.speeds[-1] < 1e-3
    assert set(np.array(rig.modes)[t <= 1.2]) == {ControlMode.TRACK}


def test_arm_rests_at_hard_expiry_and_no_row_is_executed_after_it():
    rig = Rig()
    rig.start(soft_s=0.6, until_s=1.2)
    rig.run(1.3)
    after = np.array(rig.times) > 1.2 + 1e-9
    assert set(np.array(rig.modes)[after]) == {ControlMode.HOLD}
    assert np.ptp(np.array(rig.positions)[after], axis=0).max() < 1e-5
    assert rig.made.rows_after_expiry == 0
    assert rig.made.expired_brakes == 1


def test_path_is_the_same_however_old_the_rows_are():
    rig = Rig()
    rig.start(soft_s=0.5, until_s=1.3)
    rig.run(1.3)
    radius = np.linalg.norm(np.array(rig.positions)[450:], axis=1)
    np.testing.assert_allclose(radius, RADIUS_M, atol=2e-5)


def test_twist_is_the_derivative_of_the_slowed_pose_and_has_no_jump():
    rig = Rig()
    rig.start(soft_s=0.5, until_s=1.0)
    rig.run(0.99)
    positions = np.array(rig.positions)[450:]
    speed = np.linalg.norm(np.gradient(positions, DT_S, axis=0), axis=1)
    np.testing.assert_allclose(speed[1:-1], np.array(rig.speeds)[451:-1], atol=1e-3)
    # The steepest change is that of the ramp: 0.3 m/s within half a second.
    assert np.abs(np.diff(rig.speeds[450:])).max() < 1.1 * SPEED_M_S / 0.5 * DT_S + 1e-4


def test_without_soft_expiry_rows_keep_their_speed_until_the_hard_one():
    rig = Rig()
    rig.start(until_s=1.0)
    rig.run(1.0)
    assert min(rig.speeds[500:]) > 0.99 * SPEED_M_S
    assert rig.made.speed_scale == 1.0


@pytest.mark.parametrize("soft_s", [1.0, 1.5])
def test_soft_expiry_that_is_not_before_the_hard_one_means_none(soft_s):
    rig = Rig()
    rig.start(soft_s=soft_s, until_s=1.0)
    rig.run(1.0)
    assert rig.made.speed_scale == 1.0


def test_skipped_ticks_change_nothing():
    fine, coarse = Rig(), Rig()
    for rig, step in ((fine, 1), (coarse, 10)):
        rig.start(soft_s=0.5, until_s=1.2)
        rig.run(1.1, step)
    np.testing.assert_allclose(fine.positions[-1], coarse.positions[-1], atol=2e-5)


def test_same_rows_sent_again_do_not_undo_the_slowing():
    once, again = Rig(), Rig()
    for rig in (once, again):
        rig.start(soft_s=0.5, until_s=1.2, capture_ns=7)
    once.run(1.1)
    for k in range(1, 21):
        again.run(0.4 + 0.035 * k)
        again.accept(soft_s=0.5, until_s=1.2, capture_ns=7)
    again.run(1.1)
    np.testing.assert_allclose(once.positions, again.positions, atol=1e-4)


def test_younger_segment_is_executed_at_its_own_times_without_a_jump():
    rig = Rig()
    rig.start(soft_s=0.5, until_s=1.2, capture_ns=7)
    rig.run(1.0)
    rig.accept(until_s=5.0, soft_s=4.0, capture_ns=8)
    rig.run(1.3)
    np.testing.assert_allclose(rig.positions[-1], circle(1.3), atol=1e-4)
    steps = np.linalg.norm(np.diff(rig.positions[990:], axis=0), axis=1)
    assert steps.max() < 3.0 * DT_S
    # The lag is faded out like any other jump between segments: the speed grows from what it was.
    lag_m = SPEED_M_S * (1.0 - row_time(1.0, 0.5, 1.2))
    assert np.diff(steps).max() < 1.3 * lag_m / 0.03**2 * DT_S**2


def test_fresh_rows_that_begin_now_lose_no_time_to_the_lag():
    """A fast policy plans from the reference in force: its first row is the time to begin at."""
    rig = Rig()
    rig.start(soft_s=0.5, until_s=1.5, capture_ns=7)
    rig.run(0.9)
    lag_s = 0.9 - row_time(0.9, 0.5, 1.5)
    rig.accept(soft_s=0.5, until_s=1.5, capture_ns=7, from_s=0.9, shift_s=-lag_s)
    before = len(rig.speeds)
    rig.run(0.95)
    scale = 1.0 - (np.array(rig.times[before:]) - 0.5)
    np.testing.assert_allclose(rig.speeds[before:], SPEED_M_S * scale, atol=2e-3)


@pytest.mark.parametrize("speed_scale", [1.0, 0.5])
def test_rows_of_the_old_instruction_end_within_the_time_to_brake(speed_scale):
    rig = Rig()
    rig.made.set_instruction(1, START_NS)
    rig.start(until_s=10.0, soft_s=0.5 if speed_scale < 1 else 0.0, instruction_id=1, capture_ns=3)
    rig.run(0.8)
    changed_s = rig.now_s
    braking_s = rig.speeds[-1] / 3.0
    rig.made.set_instruction(2, at_s(changed_s))
    rig.run(2.0)
    t, modes = np.array(rig.times), np.array(rig.modes)
    executed = t[(modes == ControlMode.TRACK) & (t > changed_s)]
    assert executed.max() <= changed_s + braking_s + 1e-9
    assert executed.max() >= changed_s + min(braking_s, 0.1) - 2 * DT_S
    assert rig.modes[-1] == ControlMode.HOLD


def test_three_rows_are_the_most_that_is_left_of_an_old_instruction():
    rig = Rig()
    rig.made.set_instruction(1, START_NS)
    fast = np.zeros((30, 6))
    fast[:, 0] = 2.0  # 0.67 s to brake
    times = np.arange(30) / 30.0
    positions = circle(0.0) + np.outer(times, [2.0, 0.0, 0.0])
    stamp = {"instruction_id": 1}
    rows = [at_s(t) for t in times]
    quats = np.tile(NO_TURN, (30, 1))
    assert rig.made.accept(rows, positions, quats, fast, at_s(9), START_NS, **stamp) == ""
    rig.run(0.5)
    rig.made.set_instruction(2, at_s(0.5))
    rig.run(0.59)
    assert rig.made.mode == ControlMode.TRACK
    rig.run(0.61)
    assert rig.made.mode == ControlMode.BRAKE


def test_rows_of_the_new_instruction_go_on_as_if_nothing_had_happened():
    rig = Rig()
    rig.made.set_instruction(1, START_NS)
    rig.start(until_s=10.0, instruction_id=1)
    rig.run(0.6)
    rig.made.set_instruction(2, at_s(0.6))
    rig.run(0.65)
    rig.accept(until_s=10.0, instruction_id=2)
    rig.run(1.0)
    assert set(rig.modes[401:]) == {ControlMode.TRACK}
    assert min(rig.speeds[450:]) > 0.98 * SPEED_M_S


def stamp_with(**times) -> LatencyStamp:
    return LatencyStamp(kind=StampKind.CHUNK, **times)


def test_speed_scale_in_python_is_that_of_the_core():
    rig = Rig()
    rig.start(soft_s=0.6, until_s=1.2)
    stamp = stamp_with(soft_expire_ns=at_s(0.6), hard_expire_ns=at_s(1.2))
    for t in np.arange(0.45, 1.2, 0.05):
        rig.run(t)
        assert rig.made.speed_scale == pytest.approx(stamp.speed_scale(at_s(rig.now_s)), abs=1e-9)
    assert stamp.speed_scale(at_s(1.2) + 1) == 0.0


@settings(max_examples=200, deadline=None)
@given(
    soft=st.integers(-(10**9), 3 * 10**9),
    hard=st.integers(10**6, 3 * 10**9),
    captures=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_reference_stays_continuous_whatever_the_expiries(soft, hard, captures):
    rig = Rig()
    rig.start(until_s=50.0)
    for capture in captures:
        rig.run(rig.now_s + 0.05)
        now_ns = at_s(rig.now_s)
        times = rig.now_s + np.arange(20) / 30.0
        twists = np.zeros((20, 6))
        twists[:, :3] = circle_speed(times)
        rig.made.accept(
            [at_s(t) for t in times],
            circle(times),
            np.tile(NO_TURN, (20, 1)),
            twists,
            now_ns + hard,
            now_ns,
            soft_expire_ns=max(0, now_ns + soft),
            capture_ns=capture,
        )
    rig.run(rig.now_s + 0.5)
    steps = np.linalg.norm(np.diff(rig.positions, axis=0), axis=1)
    assert np.isfinite(rig.positions).all()
    assert steps.max() < 1.0 * DT_S
    assert rig.made.rows_after_expiry == 0
