# SPDX-License-Identifier: Apache-2.0
"""Intervals and comparisons against numbers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.report.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_p,
    paired_difference,
    ratio_of_means,
    wilson_interval,
)


def test_wilson_interval_of_a_published_example() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)


def test_bootstrap_interval_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = bootstrap_interval(list(values))
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.mean == pytest.approx(half, rel=0.08)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.08)


def test_bootstrap_leaves_out_what_was_not_measured() -> None:
    assert bootstrap_interval([1.0, math.nan, 3.0]).mean == 2.0
    assert math.isnan(bootstrap_interval([math.nan]).mean)


def test_paired_difference_sees_what_unpaired_noise_would_hide() -> None:
    random = np.random.default_rng(2)
    hard = random.random(300) < 0.5
    a = np.where(hard, 0.0, 1.0)
    b = a.copy()
    b[np.flatnonzero(~hard)[:20]] = 0.0
    found = paired_difference(list(a), list(b))
    assert found.mean == pytest.approx(20 / 300)
    assert found.low > 0.0
    assert found.p_value < 0.001


def test_paired_difference_of_equals_says_nothing() -> None:
    found = paired_difference([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_sign_flips_agree_with_the_binomial_test() -> None:
    # 9 of 10 seeds better: two-sided binomial p = 22 / 1024.
    a = [1.0] * 9 + [0.0]
    b = [0.0] * 9 + [1.0]
    assert paired_difference(a, b).p_value == pytest.approx(22 / 1024, abs=0.004)


def test_mcnemar_counts_seeds_on_which_one_alone_succeeds() -> None:
    a = [True] * 9 + [False] + [True] * 50 + [False] * 40
    b = [False] * 9 + [True] + [True] * 50 + [False] * 40
    assert mcnemar_p(a, b) == mcnemar_p(b, a) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar_p(a, a) == 1.0
    assert mcnemar_p([True] * 5, [False] * 5) == pytest.approx(2 / 2**5)


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_the_same_values_give_the_same_interval() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_ratio_of_means_draws_shared_seeds_together() -> None:
    rng = np.random.default_rng(0)
    scale = dict(enumerate(rng.uniform(1.0, 10.0, 50)))
    half = {k: 0.5 * v for k, v in scale.items()}
    paired = ratio_of_means(half, scale)
    assert paired.mean == paired.low == paired.high == pytest.approx(0.5)
    apart = ratio_of_means({k + 1000: v for k, v in half.items()}, scale)
    assert apart.mean == pytest.approx(0.5)
    assert apart.low < 0.45 < 0.55 < apart.high
