# SPDX-License-Identifier: Apache-2.0
"""Where the time of an inference goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.clock import NS_PER_MS

PARTS = ("pre", "queue", "compute", "post")


@dataclass(frozen=True, kw_only=True)
class CallTiming:
    """One call [ns]: inputs made, waited for the device, computed, outputs checked and used."""

    pre_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    post_ns: int = 0

    @property
    def total_ns(self) -> int:
        """From the call to its return [ns]."""
        return self.pre_ns + self.queue_ns + self.compute_ns + self.post_ns

    def around(self, *, pre_ns: int = 0, post_ns: int = 0) -> CallTiming:
        """Return the timing of a call around this one, with what it did before and after."""
        return replace(self, pre_ns=self.pre_ns + pre_ns, post_ns=self.post_ns + post_ns)

    def computing(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return when it began and ended to compute, in a call from ``start_ns`` to ``end_ns``."""
        return start_ns + self.pre_ns + self.queue_ns, end_ns - self.post_ns


def total_of(timings: Iterable[CallTiming | None]) -> CallTiming | None:
    """Return the sum of calls that came one after the other; None if none of them is known."""
    known = [timing for timing in timings if timing is not None]
    if not known:
        return None
    return CallTiming(**{f"{p}_ns": sum(getattr(t, f"{p}_ns") for t in known) for p in PARTS})


class TimingStatistics:
    """Quantiles over the last calls; calls that warm up are never added.

    Thread-safety: one adds, others may read.
    """

    def __init__(self, window: int = 1000) -> None:
        self._calls: deque[CallTiming] = deque(maxlen=window)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, timing: CallTiming) -> None:
        """Count a call."""
        self._calls.append(timing)

    def quantile_ms(self, q: float, part: str = "total") -> float:
        """Return a quantile of a part of the calls [ms], or of the whole; NaN without any."""
        if not self._calls:
            return float("nan")
        values = [getattr(call, f"{part}_ns") for call in list(self._calls)]
        return float(np.quantile(values, q)) / NS_PER_MS
