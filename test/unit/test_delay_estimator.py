# SPDX-License-Identifier: Apache-2.0
"""The delay follows what lasts, ignores what happens once, and forgets what is past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ConfigError
from vla_ros.latency.estimator import STAGES, DelayConfig, DelayEstimator, LatencyEstimator
from vla_ros.latency.stamp import LatencyStamp, StampFlags, StampKind

MS = 1_000_000
DT_NS = 33 * MS
START_NS = 10**12


class Inferences:
    """Feeds an estimator, one inference a second."""

    def __init__(self, **config) -> None:
        self.estimator = DelayEstimator(DelayConfig(**{"warmup": 0, **config}))
        self.n = 0

    def add(self, compute_ms: float, *, pre_ms=10, queue_ms=5, post_ms=2, **fields) -> None:
        self.n += 1
        at_ns = START_NS + self.n * 1000 * MS
        instants = np.cumsum([at_ns, pre_ms * MS, queue_ms * MS, compute_ms * MS])
        stamp = LatencyStamp(
            **{
                "kind": StampKind.CHUNK,
                "capture_oldest_ns": int(instants[0]),
                "request_ns": int(instants[1]),
                "infer_start_ns": int(instants[2]),
                "infer_end_ns": int(instants[3]),
                **fields,
            }
        )
        self.estimator.add(stamp, int(instants[3]) + post_ms * MS)

    @property
    def compute_ms(self) -> float:
        return self.estimator.stage_ns("compute") / MS


def test_nothing_is_known_at_first():
    estimator = DelayEstimator()
    assert (estimator.delay_ns, estimator.latency_ns, estimator.commit_rows(DT_NS, 16)) == (0, 0, 0)


def test_delay_is_the_sum_of_its_stages_and_the_latency_begins_at_the_request():
    fed = Inferences()
    for _ in range(5):
        fed.add(100)
    assert [fed.estimator.stage_ns(name) // MS for name in STAGES] == [10, 5, 100, 2]
    assert fed.estimator.delay_ns == 117 * MS
    assert fed.estimator.latency_ns == 107 * MS
    assert fed.estimator.commit_rows(DT_NS, 16) == 4
    assert fed.estimator.commit_rows(DT_NS, 3) == 3


@pytest.mark.parametrize("n", [3, 5, 10, 40, 60])
def test_one_stall_changes_nothing_however_few_values_there_are(n):
    fed = Inferences()
    for k in range(n):
        fed.add(5000 if k == n // 2 else 100)
    assert fed.compute_ms == 100


def test_interpolated_quantile_would_follow_a_single_stall():
    plain = LatencyEstimator(window=40, warmup=0)
    for k in range(10):
        plain.add(5000 if k == 5 else 100)
    assert plain.quantile_ns(0.95) > 2500
    assert plain.robust_ns(0.95) == 100


def test_two_stalls_in_a_full_window_change_nothing():
    fed = Inferences()
    for k in range(40):
        fed.add(5000 if k in (10, 30) else 100)
    assert fed.compute_ms == 100


def test_slower_policy_is_followed_after_three_inferences_and_a_faster_one_after_38():
    fed = Inferences()
    for _ in range(40):
        fed.add(100)
    followed = []
    for _ in range(5):
        fed.add(300)
        followed.append(fed.compute_ms)
    assert followed == [100, 100, 300, 300, 300]
    for _ in range(35):
        fed.add(300)
    followed = []
    for _ in range(40):
        fed.add(100)
        followed.append(fed.compute_ms)
    assert followed.index(100) == 37


def test_young_window_follows_a_slower_policy_after_two_inferences():
    fed = Inferences()
    for _ in range(6):
        fed.add(100)
    fed.add(300)
    assert fed.compute_ms == 100
    fed.add(300)
    assert fed.compute_ms == 300


def test_warm_up_does_not_count():
    fed = Inferences()
    fed.add(9000, flags=StampFlags.WARMUP)
    assert fed.estimator.delay_ns == 0
    fed = Inferences(warmup=2)
    for compute_ms in (9000, 8000, 100, 100):
        fed.add(compute_ms)
    assert fed.compute_ms == 100


def test_other_model_begins_anew():
    fed = Inferences(warmup=1)
    for _ in range(20):
        fed.add(1000, model_hash=1)
    for _ in range(3):
        fed.add(100, model_hash=2)
    assert fed.compute_ms == 100


def test_lost_answers_change_nothing():
    fed = Inferences()
    for k in range(40):
        if k % 3:
            fed.add(100)
    assert fed.compute_ms == 100


@pytest.mark.parametrize(
    "fields", [{"infer_end_ns": 5}, {"request_ns": START_NS * 9}, {"capture_oldest_ns": 0}]
)
def test_instants_that_contradict_each_other_are_left_out(fields):
    fed = Inferences()
    fed.add(100, **fields)
    assert fed.estimator.delay_ns == 0


def test_instants_that_are_not_set_count_as_the_one_before():
    fed = Inferences()
    fed.add(100, request_ns=0, infer_start_ns=0)
    assert fed.estimator.delay_ns == 117 * MS
    assert fed.estimator.latency_ns == 117 * MS


def test_asks_when_what_is_left_is_the_latency_and_a_margin():
    fed = Inferences(margin_ms=20.0)
    for _ in range(5):
        fed.add(100)
    assert fed.estimator.should_replan(127 * MS)
    assert not fed.estimator.should_replan(127 * MS + 1)


def test_rows_that_were_not_consumed_are_not_skipped():
    estimator = DelayEstimator()
    assert estimator.delay_rows(700 * MS, DT_NS, consumed_rows=0) == 0  # from standstill
    assert estimator.delay_rows(700 * MS, DT_NS, consumed_rows=22) == 22
    assert estimator.delay_rows(700 * MS, DT_NS, consumed_rows=30) == 22
    assert estimator.disagreements == 2


def test_late_chunk_raises_the_delay_until_another_one_is_in_time():
    fed = Inferences()
    for _ in range(5):
        fed.add(100)
    fed.estimator.expect_at_least(900 * MS)
    assert fed.estimator.delay_ns == 900 * MS
    fed.add(100)
    assert fed.estimator.delay_ns == 117 * MS


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=100), st.floats(0.5, 1.0))
def test_estimate_is_one_of_the_last_values_and_never_the_single_largest(values, fraction):
    estimator = LatencyEstimator(window=40, warmup=0)
    for value in values:
        estimator.add(value)
    window = sorted(values[-40:])
    got = estimator.robust_ns(fraction)
    assert got in window
    if len(window) >= 3:
        assert got <= window[-2]
        # At most the quantile asked for lies above it, or the one outlier.
        assert sum(v > got for v in window) <= max(1, (1 - fraction) * len(window) + 1e-9)


@pytest.mark.parametrize(
    ("field", "value"), [("window", 2), ("fraction", 0.4), ("warmup", -1), ("margin_ms", -1.0)]
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        DelayConfig(**{field: value})
