# SPDX-License-Identifier: Apache-2.0
"""Clocks: the only source of "now". Algorithms are given a time; they never read one."""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """A source of monotonic nanoseconds on the robot-side host."""

    def now_ns(self) -> int:
        """Return the current time [ns]; never decreases."""


class MonotonicClock:
    """CLOCK_MONOTONIC, the time base of every stamp, ring and segment on one host."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC [ns]."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that moves only when told to; used by tests and by virtual time."""

    def __init__(self, start_ns: int = NS_PER_S) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the time last set [ns]."""
        return self._now_ns

    def advance(self, duration_ns: int) -> int:
        """Move forward by ``duration_ns`` >= 0 and return the new time [ns].

        Raises:
            ValueError: if the duration is negative; a monotonic clock never goes back.
        """
        if duration_ns < 0:
            raise ValueError(f"duration_ns must be >= 0, got {duration_ns}")
        self._now_ns += duration_ns
        return self._now_ns
