# SPDX-License-Identifier: Apache-2.0
"""Intervals and comparisons of experiments. Every random number comes from a stated seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean of a - b over the same seeds, 95 % bootstrap interval, two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a success rate, both ends 0..1."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    middle = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean of ``values`` with its 95 % percentile interval over resampled seeds."""
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    if not len(data):
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    means = _resampled_means(data, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> PairedDifference:
    """Compare two cells run on the same seeds, in the same order.

    The p-value is that of the sign-flip test: under the null hypothesis each seed's difference may
    as well have the other sign.
    """
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    means = _resampled_means(d, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return PairedDifference(
        mean=float(d.mean()), low=float(low), high=float(high), p_value=_sign_flip_p(d, seed)
    )


def mcnemar_p(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Return the two-sided p-value of the exact McNemar test of paired successes.

    Of the seeds on which only one of the two succeeds, each is as likely to be that one.
    """
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    n, least = only_a + only_b, min(only_a, only_b)
    tail: float = sum(math.comb(n, k) for k in range(least + 1)) / 2.0**n
    return min(1.0, 2.0 * tail)


def ratio_of_means(a: Mapping[int, float], b: Mapping[int, float], seed: int = 0) -> Interval:
    """Return mean(a) / mean(b) with its 95 % percentile interval; values by seed.

    Seeds that both have are drawn together, as pairs; without any, each side by itself.
    """
    shared = sorted(a.keys() & b.keys())
    of, over = ([m[k] for k in (shared or sorted(m))] for m in (a, b))
    x, y = np.asarray(of, dtype=float), np.asarray(over, dtype=float)
    random = np.random.default_rng([seed, len(x), len(y)])
    chosen = random.integers(len(x), size=(RESAMPLES, len(x)))
    others = chosen if shared else random.integers(len(y), size=(RESAMPLES, len(y)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = x[chosen].mean(axis=1) / y[others].mean(axis=1)
        middle = float(x.mean() / y.mean())
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(mean=middle, low=float(low), high=float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm's step-down method), in their order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * float(p_values[int(i)])))
        adjusted[int(i)] = worst
    return adjusted


def _resampled_means(data: Array, seed: int) -> Array:
    random = np.random.default_rng([seed, len(data)])
    values, counts = np.unique(data, return_counts=True)
    if len(values) <= 8:  # successes: the resampled counts are multinomial
        drawn = random.multinomial(len(data), counts / len(data), size=RESAMPLES)
        means: Array = drawn @ values / len(data)
        return means
    chosen = random.integers(len(data), size=(RESAMPLES, len(data)))
    resampled: Array = data[chosen].mean(axis=1)
    return resampled


def _sign_flip_p(d: Array, seed: int) -> float:
    moved = d[d != 0.0]
    if not len(moved):
        return 1.0
    random = np.random.default_rng([seed, len(moved), 1])
    observed = abs(float(moved.sum()))
    signs = 2.0 * random.integers(0, 2, size=(RESAMPLES, len(moved))) - 1.0
    sums = np.abs(signs @ moved)
    return float((1 + (sums >= observed - 1e-12).sum()) / (1 + RESAMPLES))
