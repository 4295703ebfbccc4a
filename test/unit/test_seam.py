# SPDX-License-Identifier: Apache-2.0
"""The faded offset: continuous in pose and twist, decaying, never applied twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import (
    DT_NS,
    Loop,
    capabilities,
    make_chunk,
    random_chunk,
    situation,
)

from vla_ros.chunking.rows import row_times, sample, twist
from vla_ros.chunking.seam import Offset, join_rows, jump
from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.naive import Naive, NaiveSettings
from vla_ros.chunking.strategies.seam_fade import SeamFade, SeamFadeSettings
from vla_ros.rotations import difference
from vla_ros.types import ActionChunk

TAU_S = 0.1
numbers = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6).map(np.array)


@given(numbers, numbers)
def test_offset_begins_with_its_value_and_rate_and_vanishes(
    value: np.ndarray, rate: np.ndarray
) -> None:
    offset = Offset(0, value, rate)
    np.testing.assert_allclose(offset.values(np.array([0]), TAU_S)[0], value)
    h = 1000
    slope = (offset.values(np.array([h]), TAU_S) - offset.values(np.array([-h]), TAU_S))[0]
    np.testing.assert_allclose(slope / (2e-9 * h), rate, atol=1e-4)
    assert np.abs(offset.values(np.array([2_000_000_000]), TAU_S)).max() < 1e-6


@given(numbers, numbers, st.integers(0, 400_000_000), st.integers(0, 400_000_000))
def test_offset_restated_later_is_the_same_motion(
    value: np.ndarray, rate: np.ndarray, to_ns: int, further_ns: int
) -> None:
    offset, at = Offset(0, value, rate), np.array([to_ns + further_ns])
    later = offset.advanced(to_ns, TAU_S)
    np.testing.assert_allclose(later.values(at, TAU_S), offset.values(at, TAU_S), atol=1e-9)


@given(numbers, numbers)
def test_offset_solves_the_critically_damped_equation(value: np.ndarray, rate: np.ndarray) -> None:
    offset, h = Offset(0, value, rate), 100_000
    for at_ns in (0, 70_000_000):
        before, here, after = offset.values(np.array([at_ns - h, at_ns, at_ns + h]), TAU_S)
        dt = 1e-9 * h
        acceleration = (after - 2 * here + before) / dt**2
        velocity = (after - before) / (2 * dt)
        left = acceleration + 2 / TAU_S * velocity + here / TAU_S**2
        np.testing.assert_allclose(left, 0.0, atol=0.5)  # terms are of the order 100


def test_joined_rows_go_from_old_to_new() -> None:
    old, new = make_chunk(0, np.zeros(8)), make_chunk(2 * DT_NS, np.ones(20))
    rows = join_rows(old, new, now_ns=3 * DT_NS, switch_ns=5 * DT_NS, tau_s=TAU_S)
    x = rows.positions[:, 0]
    times = row_times(rows)
    np.testing.assert_array_equal(x[times < 5 * DT_NS], 0.0)
    assert x[times == 5 * DT_NS][0] == pytest.approx(0.0)
    assert (np.diff(x[times >= 5 * DT_NS]) > 0).all()
    assert x[-1] == pytest.approx(1.0, abs=0.02)


def test_joined_rows_are_c1_at_the_switch() -> None:
    """Pose and twist of the joined motion against those of the old plan, on fine rows."""
    dt = 1_000_000
    t = 1e-9 * dt * np.arange(1200)
    old = make_chunk(0, 0.3 * np.sin(4 * t), dt_ns=dt)
    new = make_chunk(0, 0.1 + 0.2 * np.cos(3 * t), dt_ns=dt)
    switch = 300 * dt
    rows = join_rows(old, new, now_ns=switch, switch_ns=switch, tau_s=TAU_S)
    at = switch + dt
    np.testing.assert_allclose(
        sample(rows, np.array([switch])).positions, sample(old, np.array([switch])).positions
    )
    steps = np.diff(rows.positions[:, 0]) / (1e-9 * dt)
    index = (switch - rows.target0_ns) // dt
    assert steps[index] == pytest.approx(steps[index - 1], abs=0.02)
    np.testing.assert_allclose(twist(rows, at), twist(old, at), atol=0.03)


@pytest.mark.parametrize("into_ns", [0, DT_NS // 4, DT_NS - 1])
def test_offset_alone_is_taken_of_the_old_rows(into_ns: int) -> None:
    """The last row before the switch, in force until the next one, is a new one too."""
    old, new = make_chunk(0, np.ones(8)), make_chunk(2 * DT_NS, np.linspace(3.0, 2.0, 8))
    now_ns = 2 * DT_NS + into_ns
    rows = join_rows(
        old, new, now_ns=now_ns, switch_ns=now_ns, tau_s=TAU_S, old_until_ns=new.target0_ns
    )
    times = row_times(rows)
    x = rows.positions[:, 0]
    np.testing.assert_array_equal(x[times < new.target0_ns], 1.0)
    offset = sample(old, np.array([now_ns])).positions - sample(new, np.array([now_ns])).positions
    in_force = np.flatnonzero(times <= now_ns)[-1]
    assert x[in_force] == pytest.approx(new.positions[in_force - 1, 0] + offset[0, 0])
    assert abs(x[-1] - new.positions[-1, 0]) < 0.25 * abs(offset[0, 0])


def test_joined_rows_without_fade_jump() -> None:
    old, new = make_chunk(0, np.zeros(8)), make_chunk(0, np.ones(8))
    rows = join_rows(old, new, now_ns=DT_NS, switch_ns=3 * DT_NS, tau_s=None)
    np.testing.assert_array_equal(rows.positions[:, 0], [0, 0, 0, 1, 1, 1, 1, 1])


def test_joined_rows_hold_the_last_old_one_until_the_switch() -> None:
    old, new = make_chunk(0, [0.0, 1.0, 2.0]), make_chunk(5 * DT_NS, [9.0, 9.0])
    rows = join_rows(old, new, now_ns=DT_NS, switch_ns=5 * DT_NS, tau_s=TAU_S)
    assert rows.target0_ns == 0
    np.testing.assert_array_equal(rows.positions[:, 0], [0, 1, 2, 2, 2, 9, 9])


def test_new_rows_stay_as_they_are_when_the_old_ones_ended() -> None:
    old, new = make_chunk(0, np.zeros(2)), make_chunk(0, np.ones(8))
    assert join_rows(old, new, now_ns=3 * DT_NS, switch_ns=3 * DT_NS, tau_s=TAU_S) is new
    assert join_rows(None, new, now_ns=0, switch_ns=0, tau_s=TAU_S) is new


def test_jump_is_the_old_pose_seen_from_the_new_one() -> None:
    rng = np.random.default_rng(0)
    old, new = random_chunk(0, rng), random_chunk(0, rng)
    step = jump(old, new, 3 * DT_NS)
    np.testing.assert_allclose(step.value[:3], old.positions[3] - new.positions[3])
    turned = difference(new.quats_xyzw[3:4], old.quats_xyzw[3:4])[0]
    np.testing.assert_allclose(step.value[3:], turned, atol=1e-12)


def faded(time_constant_s: float = TAU_S) -> SeamFade:
    inner = Naive(capabilities(), NaiveSettings(execution_horizon=4))
    return SeamFade(inner, SeamFadeSettings(time_constant_s=time_constant_s))


def stepped(request: InferenceRequest) -> tuple[ActionChunk, ...]:
    return (make_chunk(request.target0_ns, np.full(8, float(request.seq))),)


def test_wrapper_changes_nothing_while_the_plan_goes_on() -> None:
    loop = Loop(faded(), stepped)
    loop.run(4)
    for rows in loop.plans:
        assert rows is not None
        np.testing.assert_array_equal(rows.positions[:, 0], 1.0)


def test_wrapper_begins_a_new_plan_where_the_old_one_was() -> None:
    loop = Loop(faded(), stepped)
    loop.run(6)
    now_ns = 4 * DT_NS  # second chunk, from 1 to 2
    rows = loop.plans[4]
    assert rows is not None
    at = sample(rows, np.array([now_ns])).positions[0, 0]
    assert at == pytest.approx(1.0)
    t = 1e-9 * (row_times(rows) - now_ns)
    expected = 2.0 - (1.0 + t / TAU_S) * np.exp(-t / TAU_S)
    np.testing.assert_allclose(rows.positions[:, 0], expected, atol=1e-12)


def test_wrapper_states_the_same_rows_one_step_later() -> None:
    loop = Loop(faded(), stepped)
    loop.run(7)
    a, b = loop.plans[4], loop.plans[6]
    assert a is not None
    assert b is not None
    common = row_times(b)[1:]
    np.testing.assert_allclose(sample(a, common).positions, sample(b, common).positions, atol=1e-9)


def test_wrapper_forgets_the_offset_at_reset() -> None:
    strategy = faded()
    loop = Loop(strategy, stepped)
    loop.run(5)
    strategy.reset()
    asked = strategy.request(situation(loop.now_ns))
    assert asked is not None
    strategy.offer(stepped(asked), asked, loop.now_ns)
    rows = strategy.plan(situation(loop.now_ns))
    assert rows is not None
    np.testing.assert_array_equal(rows.positions[:, 0], float(asked.seq))
