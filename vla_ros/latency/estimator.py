# SPDX-License-Identifier: Apache-2.0
"""Estimates of latencies from their recent past: windowed quantiles, warm-up left out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla_ros.clock import NS_PER_MS
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.latency.stamp import LatencyStamp, StampFlags

STAGES = ("pre", "queue", "compute", "post")


class LatencyEstimator:
    """Quantiles over the last ``window`` durations.

    A running maximum (as peers use) never forgets one bad start; a window does. The first
    ``warmup`` durations after a reset load caches and kernels and say nothing about the rest; until
    there are others they are all there is, so they are used only while nothing else is known.
    """

    def __init__(self, window: int = 50, warmup: int = 1) -> None:
        if window < 1 or warmup < 0:
            raise ConfigError(f"window must be >= 1 and warmup >= 0, got {window}, {warmup}")
        self._durations: deque[int] = deque(maxlen=window)
        self._warmup = warmup
        self._warmup_left = warmup
        self._last_warmup_ns = 0

    @property
    def is_warming_up(self) -> bool:
        """True while the next duration would be left out."""
        return self._warmup_left > 0

    def reset(self) -> None:
        """Begin anew: another model."""
        self._durations.clear()
        self._warmup_left = self._warmup

    def add(self, duration_ns: int) -> None:
        """Take one duration [ns]; a negative one is a clock error and raises ``ConfigError``."""
        if duration_ns < 0:
            raise ConfigError(f"a duration must be >= 0, got {duration_ns} ns")
        if self._warmup_left > 0:
            self._warmup_left -= 1
            self._last_warmup_ns = duration_ns
            return
        self._durations.append(duration_ns)

    def quantile_ns(self, fraction: float) -> int:
        """Return the quantile [ns]; the last warm-up duration, or 0, before anything is known."""
        if not self._durations:
            return self._last_warmup_ns
        return int(np.quantile(np.fromiter(self._durations, dtype=np.int64), fraction))

    def robust_ns(self, fraction: float) -> int:
        """Return the order statistic of rank ``ceil(fraction * n)``, never the single largest [ns].

        An interpolated p95 of fewer than 20 values is all but their maximum, so that one stall
        would stay the estimate for the whole window. Here one outlier never counts, as soon as
        there are three values to tell it from.
        """
        n = len(self._durations)
        if n == 0:
            return self._last_warmup_ns
        rank = min(math.ceil(fraction * n), n - 1 if n >= 3 else n)
        return sorted(self._durations)[max(rank, 1) - 1]

    def __len__(self) -> int:
        return len(self._durations)


@dataclass(frozen=True, kw_only=True)
class DelayConfig:
    """How delays are estimated.

    With 40 values and 0.95 the third largest counts: two stalls in the window change nothing, three
    slow inferences in a row are followed at once, a faster policy after 38.
    """

    window: int = setting(40, "inferences that count", ge=3, le=1000)
    fraction: float = setting(0.95, "quantile", ge=0.5, le=1.0)
    warmup: int = setting(1, "inferences of a new model that do not count", ge=0, le=100)
    margin_ms: float = setting(
        50.0, "ask for the next chunk this much before it is needed", unit="ms", ge=0.0, le=5000.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


class DelayEstimator:
    """How long an inference takes, from its stamps: in all and per stage.

    Stages: ``pre`` exposure of the oldest image to request, ``queue`` to the start of the
    inference, ``compute`` to its end, ``post`` to the arrival of the rows. ``delay_ns`` is their
    sum, what rows must be ahead of; ``latency_ns`` lacks ``pre``, what must be left when asking.
    Payloads flagged as warm-up do not count; another model begins anew. A lost answer gives no
    value and changes nothing.

    Thread-safety: one thread.
    """

    def __init__(self, config: DelayConfig | None = None) -> None:
        self._config = config or DelayConfig()
        self._model_hash: int | None = None
        self._floor_ns = 0
        self._delay, self._latency = self._new(), self._new()
        self._stages = {name: self._new() for name in STAGES}
        self.disagreements = 0

    def _new(self) -> LatencyEstimator:
        return LatencyEstimator(self._config.window, self._config.warmup)

    def reset(self) -> None:
        """Begin anew: another model."""
        self._floor_ns = 0
        for estimator in (self._delay, self._latency, *self._stages.values()):
            estimator.reset()

    def add(self, stamp: LatencyStamp, arrival_ns: int) -> None:
        """Take the instants of a payload that arrived; those that contradict themselves are left.

        Instants that are not set count as the one before.
        """
        if self._model_hash not in (None, stamp.model_hash):
            self.reset()
        self._model_hash = stamp.model_hash
        if stamp.flags & StampFlags.WARMUP:
            return
        instants = [stamp.capture_oldest_ns]
        for instant_ns in (stamp.request_ns, stamp.infer_start_ns, stamp.infer_end_ns, arrival_ns):
            instants.append(instant_ns or instants[-1])
        if instants[0] <= 0 or any(b < a for a, b in pairwise(instants)):
            return
        for name, before_ns, after_ns in zip(STAGES, instants[:-1], instants[1:], strict=True):
            self._stages[name].add(after_ns - before_ns)
        self._delay.add(instants[-1] - instants[0])
        self._latency.add(instants[-1] - instants[1])
        self._floor_ns = 0

    def expect_at_least(self, delay_ns: int) -> None:
        """A chunk came too late to be used: count on its delay until another one is in time."""
        self._floor_ns = max(self._floor_ns, delay_ns)

    @property
    def delay_ns(self) -> int:
        """From exposure to rows [ns]; 0 while nothing is known."""
        return max(self._floor_ns, self._delay.robust_ns(self._config.fraction))

    @property
    def latency_ns(self) -> int:
        """From request to rows [ns]; 0 while nothing is known."""
        return max(self._floor_ns, self._latency.robust_ns(self._config.fraction))

    def stage_ns(self, name: str) -> int:
        """Return the estimate for one of ``STAGES`` [ns]."""
        return self._stages[name].robust_ns(self._config.fraction)

    def commit_rows(self, dt_ns: int, horizon: int) -> int:
        """Return d: rows that will be executed before the next inference is done, 0 to horizon."""
        return min(-(-self.delay_ns // dt_ns), horizon)

    def should_replan(self, remaining_ns: int) -> bool:
        """Say whether to ask for rows now, with ``remaining_ns`` of the running ones left."""
        return remaining_ns <= self.latency_ns + round(self._config.margin_ms * NS_PER_MS)

    def delay_rows(self, delay_ns: int, dt_ns: int, consumed_rows: int) -> int:
        """Return by how many rows one inference was late: min(delay / dt, rows consumed).

        Rows that were not executed meanwhile, because the arm stood still or had run out of them,
        are not to be skipped in the new chunk. Counts where the two differ by more than a row.
        """
        by_time = -(-delay_ns // dt_ns)
        if abs(by_time - consumed_rows) > 1:
            self.disagreements += 1
        return min(by_time, consumed_rows)
