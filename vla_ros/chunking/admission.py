# SPDX-License-Identifier: Apache-2.0
"""Which chunks may be executed: by capture time, owner, clock, format and the time of their rows.

The rules that latents share are in ``latency/admission.py``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.latency.admission import (
    FUTURE_TOLERANCE_NS,
    Admission,
    BufferContext,
    judge_stamp,
)
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import ActionChunk

_FAR_FUTURE_NS = 10_000_000_000  # the control host refuses rows beyond it
_QUATERNION_TOLERANCE = 1e-3  # that of the control host


@dataclass(frozen=True, kw_only=True)
class StampedChunk:
    """Rows and where they come from."""

    chunk: ActionChunk
    stamp: LatencyStamp


@dataclass(frozen=True, kw_only=True)
class ChunkVerdict:
    """What became of a chunk.

    Attributes:
        is_synchronous: clocks cannot be trusted: ask only at rest, execute from the first row.
        asks_again: nothing of it can be executed; ask for another one at once.
        delay_ns: from its exposure to now, the delay to count on when asking again [ns].
    """

    admission: Admission
    is_synchronous: bool = False
    asks_again: bool = False
    delay_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class ChunkFormat:
    """What chunks of a policy look like: time between rows and the largest number of rows."""

    dt_ns: int
    horizon: int

    def __post_init__(self) -> None:
        if self.dt_ns <= 0 or self.horizon < 1:
            raise ConfigError(
                f"dt_ns and horizon must be positive, got {self.dt_ns}, {self.horizon}"
            )


class ChunkAdmission:
    """Judges chunks and counts what became of them.

    Guarantees: what is accepted belongs to the context in force, was captured no earlier than all
    that was accepted before in it, has not expired and holds finite rows of the format agreed on,
    of which one at least is not past.

    A clock that jumped, or one less certain than half a row, makes execution synchronous until
    ``clean_to_recover`` chunks in a row were without trouble.

    Thread-safety: one thread.
    """

    def __init__(self, chunk_format: ChunkFormat, clean_to_recover: int = 5) -> None:
        self._format = chunk_format
        self._clean_to_recover = clean_to_recover
        self._context = BufferContext(episode_id=0, instruction_id=0)
        self._newest = (0, 0)  # capture, number
        self._published = (0, 0)  # number, instant
        self._last_now_ns = 0
        self._clean_left = 0
        self.counts: Counter[Admission] = Counter()

    @property
    def context(self) -> BufferContext:
        """What chunks must belong to."""
        return self._context

    @property
    def is_synchronous(self) -> bool:
        """True while the clocks cannot be trusted."""
        return self._clean_left > 0

    def set_context(self, context: BufferContext) -> None:
        """Change what chunks must belong to."""
        if context != self._context:
            self._context = context
            self._newest = (0, 0)

    def observe_time(self, now_ns: int) -> bool:
        """Note the time; False if it ran backwards since the last call: the clock jumped."""
        has_jumped = now_ns < self._last_now_ns
        self._last_now_ns = now_ns
        if has_jumped:
            self._distrust()
            self._newest = self._published = (0, 0)
        return not has_jumped

    def offer(self, offered: StampedChunk, now_ns: int, running_until_ns: int = 0) -> ChunkVerdict:
        """Judge a chunk. ``running_until_ns``: when the rows that are executed now will end."""
        is_clean = self.observe_time(now_ns)
        stamp = offered.stamp
        admission = self._judge_clock(stamp, now_ns)
        is_clean &= admission is not Admission.CLOCK_JUMP
        if admission is Admission.ACCEPTED:
            newest = (stamp.capture_oldest_ns, stamp.seq)
            is_newest = newest > self._newest
            admission = judge_stamp(stamp, self._context, now_ns, is_newest=is_newest)
        if admission is Admission.ACCEPTED:
            admission = self._judge_rows(offered)
        if admission is Admission.ACCEPTED:
            # Only of a chunk that is ours: a stranger's clock says nothing about this one.
            if 2 * stamp.clock_err_ns > self._format.dt_ns:
                self._distrust()
                is_clean = False
            admission = self._judge_times(offered.chunk, now_ns, running_until_ns)
        self.counts[admission] += 1
        if admission is Admission.ACCEPTED:
            self._newest = newest
            self._published = (stamp.seq, stamp.publish_ns)
            if is_clean and self._clean_left:
                self._clean_left -= 1
        return ChunkVerdict(
            admission=admission,
            is_synchronous=self.is_synchronous,
            asks_again=admission is Admission.ALL_ROWS_PAST,
            delay_ns=max(0, stamp.age_ns(now_ns)),
        )

    def _distrust(self) -> None:
        self._clean_left = self._clean_to_recover

    def _judge_clock(self, stamp: LatencyStamp, now_ns: int) -> Admission:
        """Instants that contradict each other, or a clock that stamps earlier than before."""
        mine = stamp.clock_domain == self._context.clock_domain
        if not mine or (self._context.clock_id not in (b"", stamp.clock_id)):
            return Admission.WRONG_CLOCK
        instants = (
            stamp.capture_oldest_ns,
            stamp.request_ns,
            stamp.infer_start_ns,
            stamp.infer_end_ns,
            stamp.publish_ns,
        )
        known = [instant_ns for instant_ns in instants if instant_ns]
        in_order = all(a <= b + FUTURE_TOLERANCE_NS for a, b in pairwise(known))
        seq, published_ns = self._published
        has_jumped = (
            not in_order
            or stamp.publish_ns > now_ns + FUTURE_TOLERANCE_NS
            or (stamp.seq > seq and 0 < stamp.publish_ns < published_ns)
        )
        if not has_jumped:
            return Admission.ACCEPTED
        if stamp.capture_oldest_ns > now_ns + FUTURE_TOLERANCE_NS and in_order:
            return Admission.FROM_FUTURE
        self._distrust()
        self._published = (0, 0)
        return Admission.CLOCK_JUMP

    def _judge_rows(self, offered: StampedChunk) -> Admission:
        chunk, stamp, form = offered.chunk, offered.stamp, self._format
        if (
            chunk.dt_ns != form.dt_ns
            or chunk.horizon > form.horizon
            or stamp.dt_ns not in (0, chunk.dt_ns)
            or stamp.horizon not in (0, chunk.horizon)
            or stamp.target0_ns not in (0, chunk.target0_ns)
        ):
            return Admission.WRONG_FORMAT
        rows = (chunk.positions, chunk.quats_xyzw, chunk.gripper_width_m)
        if not all(np.isfinite(values).all() for values in rows):
            return Admission.NOT_FINITE
        norms = np.linalg.norm(chunk.quats_xyzw, axis=1)
        if np.abs(norms - 1.0).max() > _QUATERNION_TOLERANCE:
            return Admission.NOT_UNIT
        return Admission.ACCEPTED

    def _judge_times(self, chunk: ActionChunk, now_ns: int, running_until_ns: int) -> Admission:
        if self.is_synchronous:
            # Row times mean nothing: the rows begin when those before have ended.
            is_free = now_ns >= running_until_ns
            return Admission.ACCEPTED if is_free else Admission.NOT_FINISHED
        if chunk.target0_ns > now_ns + _FAR_FUTURE_NS:
            return Admission.FROM_FUTURE
        last_ns = chunk.target0_ns + (chunk.horizon - 1) * chunk.dt_ns
        return Admission.ALL_ROWS_PAST if last_ns <= now_ns else Admission.ACCEPTED
