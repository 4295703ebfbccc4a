# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ConfigError
from vla_ros.latency.estimator import LatencyEstimator

MS = 1_000_000


def test_quantile_is_zero_while_nothing_is_known() -> None:
    assert LatencyEstimator().quantile_ns(0.95) == 0


def test_warm_up_counts_only_while_nothing_better_is_known() -> None:
    estimator = LatencyEstimator(warmup=1)
    assert estimator.is_warming_up
    estimator.add(5000 * MS)
    assert not estimator.is_warming_up
    assert estimator.quantile_ns(0.95) == 5000 * MS
    estimator.add(100 * MS)
    assert estimator.quantile_ns(0.95) == 100 * MS


def test_window_forgets_a_bad_start() -> None:
    estimator = LatencyEstimator(window=10, warmup=0)
    estimator.add(9000 * MS)
    for _ in range(10):
        estimator.add(100 * MS)
    assert estimator.quantile_ns(1.0) == 100 * MS


def test_reset_begins_anew() -> None:
    estimator = LatencyEstimator(warmup=1)
    for duration_ms in (900, 100, 100):
        estimator.add(duration_ms * MS)
    estimator.reset()
    assert estimator.is_warming_up
    estimator.add(300 * MS)
    assert estimator.quantile_ns(0.5) == 300 * MS


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_quantile_agrees_with_numpy(durations_ns: list[int], fraction: float) -> None:
    estimator = LatencyEstimator(window=50, warmup=0)
    for duration_ns in durations_ns:
        estimator.add(duration_ns)
    expected = np.quantile(np.array(durations_ns, dtype=np.int64), fraction)
    assert estimator.quantile_ns(fraction) == pytest.approx(expected, abs=1.0)


def test_negative_duration_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be >= 0, got -1 ns"):
        LatencyEstimator().add(-1)


@pytest.mark.parametrize(("window", "warmup"), [(0, 1), (-3, 0), (10, -1)])
def test_impossible_settings_are_refused(window: int, warmup: int) -> None:
    with pytest.raises(ConfigError, match="window must be >= 1"):
        LatencyEstimator(window=window, warmup=warmup)
