# SPDX-License-Identifier: Apache-2.0
"""The latent buffer: keeps the newest *usable* latent and says why others were refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from vla_ros.latency.admission import Admission, BufferContext, judge_stamp
from vla_ros.latency.clock_domain import ClockGate
from vla_ros.types import Latent

__all__ = ["Admission", "BufferContext", "LatentBuffer"]


class LatentBuffer:
    """Holds one latent. Admission is by capture time, never by arrival.

    Guarantees: what ``newest_usable`` returns was captured later than everything it returned before
    in the same context, has not passed its hard expiry at the time asked for, and belongs to the
    episode and instruction in force.

    Args:
        clock: whose stamps can be understood here; None where there is only one clock, as in
            virtual time.

    Thread-safety: one thread.
    """

    def __init__(self, clock: ClockGate | None = None) -> None:
        self._clock = clock
        self._context = BufferContext(episode_id=0, instruction_id=0)
        self._latent: Latent | None = None
        self._newest_capture_ns = 0
        self.counts: Counter[Admission] = Counter()

    @property
    def context(self) -> BufferContext:
        """The episode and instruction in force."""
        return self._context

    def set_context(self, context: BufferContext) -> None:
        """Change episode or instruction; what was held for another one is dropped."""
        if context == self._context:
            return
        self._context = context
        self._latent = None
        self._newest_capture_ns = 0

    def offer(self, latent: Latent, now_ns: int) -> Admission:
        """Take a latent if it is usable; return what became of it."""
        stamp = latent.stamp if self._clock is None else self._clock.to_own(latent.stamp)
        if stamp is None:
            self.counts[Admission.WRONG_CLOCK] += 1
            return Admission.WRONG_CLOCK
        if stamp is not latent.stamp:
            latent = replace(latent, stamp=stamp)
        admission = self._judge(latent, now_ns)
        self.counts[admission] += 1
        if admission is Admission.ACCEPTED:
            self._latent = latent
            self._newest_capture_ns = latent.stamp.capture_oldest_ns
        return admission

    def newest_usable(self, now_ns: int) -> Latent | None:
        """Return the latent to act on at ``now_ns``, or None."""
        if self._latent is None or now_ns > self._latent.stamp.usable_until_ns:
            return None
        return self._latent

    def why_empty(self, now_ns: int) -> str:
        """Say in a few words why there is nothing to act on; empty if there is something."""
        if self._latent is None:
            return "no latent for this episode and instruction yet"
        overdue_ns = now_ns - self._latent.stamp.usable_until_ns
        return f"latent expired {overdue_ns / 1e6:.0f} ms ago" if overdue_ns > 0 else ""

    def _judge(self, latent: Latent, now_ns: int) -> Admission:
        stamp = latent.stamp
        is_newest = stamp.capture_oldest_ns > self._newest_capture_ns
        admission = judge_stamp(stamp, self._context, now_ns, is_newest=is_newest)
        if admission is not Admission.ACCEPTED:
            return admission
        for tensor in latent.tensors.values():
            if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
                return Admission.NOT_FINITE
        return Admission.ACCEPTED
