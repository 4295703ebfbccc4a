# SPDX-License-Identifier: Apache-2.0
"""The latent buffer: keeps the newest *usable* latent and says why others were refused."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.latency.clock_domain import ClockGate
from vla_ros.types import Latent


class Admission(enum.Enum):
    """What became of a latent that arrived."""

    ACCEPTED = "accepted"
    EXPIRED = "expired"
    OUT_OF_ORDER = "out of order"
    WRONG_EPISODE = "wrong episode"
    WRONG_INSTRUCTION = "wrong instruction"
    WRONG_SCHEMA = "wrong schema"
    NOT_FINITE = "not finite"
    FROM_FUTURE = "captured in the future"
    FOREIGN_CLOCK = "clock of another host"


@dataclass(frozen=True, kw_only=True)
class BufferContext:
    """What a latent must belong to. ``schema_hash`` 0 accepts any schema."""

    episode_id: int
    instruction_id: int
    schema_hash: int = 0


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

    FUTURE_TOLERANCE_NS = 50_000_000

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
            self.counts[Admission.FOREIGN_CLOCK] += 1
            return Admission.FOREIGN_CLOCK
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
        if self._latent is None or now_ns > self._latent.stamp.hard_expire_ns:
            return None
        return self._latent

    def why_empty(self, now_ns: int) -> str:
        """Say in a few words why there is nothing to act on; empty if there is something."""
        if self._latent is None:
            return "no latent for this episode and instruction yet"
        overdue_ns = now_ns - self._latent.stamp.hard_expire_ns
        return f"latent expired {overdue_ns / 1e6:.0f} ms ago" if overdue_ns > 0 else ""

    def _judge(self, latent: Latent, now_ns: int) -> Admission:
        stamp, context = latent.stamp, self._context
        if stamp.episode_id != context.episode_id:
            return Admission.WRONG_EPISODE
        if stamp.instruction_id != context.instruction_id:
            return Admission.WRONG_INSTRUCTION
        if context.schema_hash not in (0, stamp.schema_hash):
            return Admission.WRONG_SCHEMA
        if stamp.capture_oldest_ns > now_ns + self.FUTURE_TOLERANCE_NS:
            return Admission.FROM_FUTURE
        if stamp.capture_oldest_ns <= self._newest_capture_ns:
            return Admission.OUT_OF_ORDER
        if now_ns > stamp.hard_expire_ns:
            return Admission.EXPIRED
        for tensor in latent.tensors.values():
            if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
                return Admission.NOT_FINITE
        return Admission.ACCEPTED
