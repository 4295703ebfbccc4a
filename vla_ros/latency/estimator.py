# SPDX-License-Identifier: Apache-2.0
"""Estimate of a latency from its recent past: windowed quantiles, warm-up left out."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.errors import ConfigError


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
