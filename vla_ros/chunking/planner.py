# SPDX-License-Identifier: Apache-2.0
"""The Python half of execution: a strategy between admission and what is committed.

    observation -> request -> (a policy, however long it takes) -> offer -> plan -> segment

The same for a fast half that answers at once, for a policy that takes seconds, live and in virtual
time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.chunking.admission import ChunkVerdict, StampedChunk
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.strategies.base import InferenceRequest, Situation, Strategy
from vla_ros.latency.admission import Admission, BufferContext
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import ActionChunk, Observation, RobotState, Segment

_NEVER_NS = 2**62


@dataclass(frozen=True)
class Planned:
    """Rows to execute from now on, and the segment that carries them to the control host."""

    rows: ActionChunk
    segment: Segment


class ChunkPlanner:
    """Asks, admits, joins and commits; runs no policy, reads no clock and no ring.

    Args:
        strategy: how chunks are joined; ``use`` changes it at any time.
        committer: admission, delays and what is committed.
        admits: False hands every result to the strategy, as clients without admission do.

    Thread-safety: one thread.
    """

    def __init__(
        self, strategy: Strategy, committer: ChunkCommitter, *, admits: bool = True
    ) -> None:
        self._strategy = strategy
        self._committer = committer
        self._admits = admits
        self._outstanding: set[int] = set()
        self._stamp: LatencyStamp | None = None  # newest cause of the rows
        self._older_until_ns = _NEVER_NS  # when the oldest of the others expires

    @property
    def strategy(self) -> Strategy:
        """The strategy in use."""
        return self._strategy

    @property
    def committer(self) -> ChunkCommitter:
        """What admits chunks and knows their delays."""
        return self._committer

    def use(self, strategy: Strategy) -> None:
        """Change the strategy; results that are on their way were asked for by the old one.

        The control host executes what was committed until the new strategy has rows.
        """
        self._strategy = strategy
        self._forget()

    def reset(self) -> None:
        """Forget every row and every result on its way."""
        self._committer.reset()
        self._forget()

    def set_context(
        self, context: BufferContext, now_ns: int, state: RobotState | None
    ) -> Segment | None:
        """Change what chunks must belong to; return what may be left of the old rows, if any."""
        if context == self._committer.admission.context:
            return None
        rest = self._committer.set_context(context, now_ns, state)
        self._forget()
        return rest

    def request(self, now_ns: int, observation: Observation) -> InferenceRequest | None:
        """Return what to infer now, or None."""
        self._drop_expired(now_ns)
        request = self._strategy.request(self._situation(now_ns, observation))
        if request is not None:
            self._outstanding.add(request.seq)
        return request

    def give_up(self, request: InferenceRequest) -> None:
        """Expect the result of a request no longer."""
        self._outstanding.discard(request.seq)

    def offer(
        self,
        chunks: tuple[ActionChunk, ...],
        request: InferenceRequest,
        stamp: LatencyStamp,
        now_ns: int,
    ) -> ChunkVerdict:
        """Take the result of a request that arrived at ``now_ns``.

        ``stamp`` is that of the first chunk; the others are candidates of the same call.
        """
        self._outstanding.discard(request.seq)
        if self._admits:
            verdict = self._committer.admit(StampedChunk(chunk=chunks[0], stamp=stamp), now_ns)
        else:
            verdict = ChunkVerdict(admission=Admission.ACCEPTED)
            self._committer.delays.add(stamp, now_ns)
        if verdict.admission is Admission.ACCEPTED:
            if verdict.is_synchronous:  # row times mean nothing while clocks cannot be trusted
                chunks = tuple(replace(c, target0_ns=now_ns) for c in chunks)
            self._drop_expired(now_ns)
            was_mixed = now_ns < self._strategy.mixed_until_ns
            self._strategy.offer(chunks, request, now_ns)
            if self._stamp is not None:
                older_ns = self._older_until_ns if was_mixed else _NEVER_NS
                self._older_until_ns = min(older_ns, self._stamp.usable_until_ns)
            self._stamp = stamp
        return verdict

    def plan(self, now_ns: int, observation: Observation) -> Planned | None:
        """Return what to execute from now on; None: the control host brakes and holds."""
        rows = self._strategy.plan(self._situation(now_ns, observation))
        if rows is None or self._stamp is None:
            return None
        stamp = self._stamp.replace(publish_ns=now_ns)
        if self._admits and now_ns < self._strategy.mixed_until_ns:
            # As good as the oldest cause: what is old in these rows is not executed beyond it.
            until_ns = self._older_until_ns + max(0, stamp.clock_err_ns)
            stamp = stamp.replace(
                soft_expire_ns=min(stamp.soft_expire_ns, self._older_until_ns),
                hard_expire_ns=min(stamp.hard_expire_ns, until_ns),
            )
        segment = self._committer.commit(rows, stamp)
        return Planned(rows, segment)

    def _situation(self, now_ns: int, observation: Observation) -> Situation:
        return Situation(
            now_ns=now_ns,
            observation=observation,
            delay_ns=self._committer.delays.latency_ns,
            in_flight=len(self._outstanding),
        )

    def _drop_expired(self, now_ns: int) -> None:
        """Forget rows that the control host no longer executes: the arm has left them."""
        if self._admits and self._stamp is not None and now_ns > self._stamp.usable_until_ns:
            self._strategy.drop_rows()
            self._stamp = None
            self._older_until_ns = _NEVER_NS

    def _forget(self) -> None:
        self._strategy.reset()
        self._outstanding.clear()
        self._stamp = None
        self._older_until_ns = _NEVER_NS
