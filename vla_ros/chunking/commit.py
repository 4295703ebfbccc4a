# SPDX-License-Identifier: Apache-2.0
"""From chunks that arrive to segments that are committed; when to ask for the next one."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from vla_ros.chunking.admission import ChunkAdmission, ChunkVerdict, StampedChunk
from vla_ros.chunking.rows import slice_rows
from vla_ros.chunking.segment import segment_of
from vla_ros.clock import NS_PER_S
from vla_ros.latency.admission import Admission, BufferContext
from vla_ros.latency.estimator import DelayEstimator
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import ActionChunk, RobotState, Segment

SEGMENT_ROWS = 64  # room in a segment, ``kMaxRows`` of the core
_OLD_ROWS = 3  # of another instruction that may still be executed
_SHORTEST_REST_NS = 5_000_000  # a shorter rest would have expired before the control host sees it


@dataclass(frozen=True, kw_only=True)
class BrakeLimits:
    """Decelerations of the control host, for the time that braking takes."""

    brake_m_s2: float = 3.0
    brake_rad_s2: float = 10.0

    def braking_ns(self, state: RobotState) -> int:
        """Return how long the reference of ``state`` takes to come to rest [ns]."""
        linear = float(np.linalg.norm(state.twist_ref_base[:3])) / self.brake_m_s2
        angular = float(np.linalg.norm(state.twist_ref_base[3:])) / self.brake_rad_s2
        longest_s = max(linear, angular)
        return round(longest_s * NS_PER_S) if math.isfinite(longest_s) else 0


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What became of an offered chunk; ``segment`` is None where nothing of it is executed."""

    verdict: ChunkVerdict
    segment: Segment | None = None


class ChunkCommitter:
    """Turns admitted chunks into segments and knows when the next one must be asked for.

    Rows keep their times; the control host interpolates between them, skips those that are past and
    brakes when they end. After a change of episode or instruction at most min(braking time, three
    rows) of the old rows are left, and the next chunk is asked for at once.

    It is handed the time and the state; it reads no clock and no ring. Thread-safety: one thread.
    """

    def __init__(
        self,
        admission: ChunkAdmission,
        delays: DelayEstimator | None = None,
        limits: BrakeLimits | None = None,
    ) -> None:
        self._admission = admission
        self._delays = delays or DelayEstimator()
        self._limits = limits or BrakeLimits()
        self._running: Segment | None = None
        self._must_ask = True

    @property
    def admission(self) -> ChunkAdmission:
        """What judges the chunks; its counts say what became of them."""
        return self._admission

    @property
    def delays(self) -> DelayEstimator:
        """How long inferences take."""
        return self._delays

    def reset(self) -> None:
        """Forget the running rows."""
        self._running = None
        self._must_ask = True

    def set_context(
        self, context: BufferContext, now_ns: int, state: RobotState | None
    ) -> Segment | None:
        """Change what chunks must belong to; return what may be left of the old rows, if any.

        Nothing is left under another epoch: the control host brakes at once. Nor without ``state``,
        for then nobody knows how fast the arm is.
        """
        old, running = self._admission.context, self._running
        if context == old:
            return None
        self._admission.set_context(context)
        is_same_task = (
            context.episode_id == old.episode_id and context.instruction_id == old.instruction_id
        )
        if is_same_task and context.epoch == old.epoch:
            return None
        self.reset()
        if running is None or context.epoch != old.epoch or state is None:
            return None
        keep_ns = min(self._limits.braking_ns(state), _OLD_ROWS * running.stamp.dt_ns)
        until_ns = min(now_ns + max(keep_ns, _SHORTEST_REST_NS), running.valid_until_ns)
        return dataclasses.replace(
            running, valid_until_ns=until_ns, stamp=running.stamp.replace(publish_ns=now_ns)
        )

    def offer(self, offered: StampedChunk, now_ns: int) -> Commitment:
        """Take a chunk that arrived at ``now_ns`` if it may be executed, and commit its rows."""
        verdict = self.admit(offered, now_ns)
        if verdict.admission is not Admission.ACCEPTED:
            return Commitment(verdict=verdict)
        chunk = offered.chunk
        if verdict.is_synchronous:
            chunk = dataclasses.replace(chunk, target0_ns=now_ns)
        return Commitment(verdict=verdict, segment=self.commit(chunk, offered.stamp))

    def admit(self, offered: StampedChunk, now_ns: int) -> ChunkVerdict:
        """Judge a chunk that arrived at ``now_ns`` and learn its delay; commits nothing."""
        verdict = self._admission.offer(offered, now_ns, self.running_until_ns(now_ns))
        if verdict.asks_again:
            self._delays.expect_at_least(verdict.delay_ns)
            self._must_ask = True
        if verdict.admission is Admission.ACCEPTED and offered.stamp.request_ns:
            self._delays.add(offered.stamp, now_ns)
        return verdict

    def commit(self, rows: ActionChunk, stamp: LatencyStamp) -> Segment:
        """Return the rows as the segment that runs from now on; ``stamp``: their newest cause.

        A segment has room for ``SEGMENT_ROWS``: of a plan that reaches further, the rest is
        committed with the next one.
        """
        if rows.horizon > SEGMENT_ROWS:
            rows = slice_rows(rows, 0, SEGMENT_ROWS)
        stamp = stamp.replace(
            target0_ns=rows.target0_ns,
            dt_ns=rows.dt_ns,
            horizon=rows.horizon,
            committed_len=self._delays.commit_rows(rows.dt_ns, rows.horizon),
        )
        self._running = segment_of(rows, stamp)
        self._must_ask = False
        return self._running

    def running_until_ns(self, now_ns: int) -> int:
        """Return when the rows that are executed now will end [ns]; ``now_ns`` without any."""
        if self._running is None:
            return now_ns
        return min(int(self._running.target_ns[-1]), self._running.valid_until_ns)

    def should_ask(self, now_ns: int) -> bool:
        """Say whether a chunk must be asked for now, if none is on its way."""
        remaining_ns = self.running_until_ns(now_ns) - now_ns
        if self._must_ask or remaining_ns <= 0:
            return True
        return not self._admission.is_synchronous and self._delays.should_replan(remaining_ns)
