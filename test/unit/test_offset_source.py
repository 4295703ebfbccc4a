# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.policies.hooks.offset_source import OffsetConfig, OffsetSource

MS = 1_000_000
PUSH = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.2])


def run(source: OffsetSource, begin_ms: int, end_ms: int) -> np.ndarray:
    for ms in range(begin_ms, end_ms, 20):
        correction = source.step(ms * MS)
    return correction


def test_a_known_offset_is_said_at_every_time() -> None:
    source = OffsetSource(OffsetConfig(offset_m=(0.009, -0.012, 0.0), offset_rad=(0.0, 0.0, 0.1)))
    for now_ms in (0, 20, 5000):
        expected = [0.009, -0.012, 0.0, 0.0, 0.0, 0.1]
        np.testing.assert_array_equal(source.step(now_ms * MS), expected)


def test_a_velocity_moves_it_while_it_is_said_and_no_longer() -> None:
    source = OffsetSource(OffsetConfig(velocity_hold_s=0.1))
    source.step(0)
    assert source.push(PUSH, 0)
    np.testing.assert_allclose(run(source, 20, 120), 0.1 * PUSH, atol=1e-12)
    np.testing.assert_allclose(run(source, 120, 1000), 0.1 * PUSH, atol=1e-12)


def test_no_velocity_takes_it_beyond_its_reach_and_back_is_not_wound_up() -> None:
    source = OffsetSource(OffsetConfig(reach_m=0.02, reach_rad=0.05, velocity_hold_s=5.0))
    source.step(0)
    source.push(PUSH, 0)
    there = run(source, 20, 2000)
    assert np.linalg.norm(there[:3]) == pytest.approx(0.02)
    assert np.linalg.norm(there[3:]) == pytest.approx(0.05)
    source.push(-PUSH, 1980 * MS)
    np.testing.assert_allclose(source.step(2080 * MS)[0], 0.01, atol=1e-12)


def test_a_pause_of_its_loop_is_not_made_up_for() -> None:
    source = OffsetSource(OffsetConfig(velocity_hold_s=5.0))
    source.step(0)
    source.push(PUSH, 0)
    assert source.step(3000 * MS)[0] == pytest.approx(0.01)


def test_zero_leaves_the_known_offset() -> None:
    source = OffsetSource(OffsetConfig(offset_m=(0.0, 0.0, 0.003)))
    source.step(0)
    source.push(PUSH, 0)
    run(source, 20, 100)
    source.zero()
    np.testing.assert_array_equal(run(source, 100, 200), [0, 0, 0.003, 0, 0, 0])


def test_what_is_no_velocity_or_offset_is_refused() -> None:
    source = OffsetSource()
    assert not source.push(np.array([0.1, np.nan, 0, 0, 0, 0]), 0)
    assert not source.push(np.zeros(3), 0)
    with pytest.raises(ConfigError, match=r"offset_m must be 3 numbers, got \[0.0\]"):
        OffsetConfig(offset_m=(0.0,))
