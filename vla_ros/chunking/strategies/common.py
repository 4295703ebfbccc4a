# SPDX-License-Identifier: Apache-2.0
"""What all strategies share: which results are still wanted, the plan they run, the time grid."""

from __future__ import annotations

from vla_ros.chunking.rows import end_ns, rows_from, shifted
from vla_ros.chunking.seam import join_rows
from vla_ros.chunking.strategies.base import (
    Guidance,
    InferenceRequest,
    PolicyCapabilities,
    Prefix,
    Situation,
)
from vla_ros.types import ActionChunk, Observation


class Ledger:
    """Numbers requests and says which results are wanted.

    Each once, none from before the last reset, none older than one already taken: an inference
    that overtakes another makes the older result worthless.
    """

    def __init__(self) -> None:
        self._next_seq = 1
        self._newest_taken = 0

    def reset(self) -> None:
        """Refuse the results of every request made so far."""
        self._newest_taken = self._next_seq - 1

    def issue(self) -> int:
        """Return the number of a new request."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def take(self, request: InferenceRequest) -> bool:
        """Return whether the result of ``request`` is wanted; the answer is yes only once."""
        if not self._newest_taken < request.seq < self._next_seq:
            return False
        self._newest_taken = request.seq
        return True


class PlanStrategy:
    """Base of the strategies that keep one plan: rows with times, replaced when a result comes.

    Attributes:
        origin: the request whose rows are being executed; None without a plan.
        began_ns: time of row 0 of that chunk.
    """

    name = ""

    def __init__(self, capabilities: PolicyCapabilities) -> None:
        self._capabilities = capabilities
        self._ledger = Ledger()
        self._plan: ActionChunk | None = None
        self.origin: InferenceRequest | None = None
        self.began_ns = 0
        self._mixed_until_ns = 0

    @property
    def mixed_until_ns(self) -> int:
        """Until then the rows owe something to chunks before the newest one; 0: nothing."""
        return self._mixed_until_ns

    @property
    def dt_ns(self) -> int:
        """Time from one row of the policy to the next [ns]."""
        return self._capabilities.dt_ns

    @property
    def horizon(self) -> int:
        """Rows of a chunk, H."""
        return self._capabilities.horizon

    def reset(self) -> None:
        """Forget every row and every request."""
        self._ledger.reset()
        self.drop_rows()

    def drop_rows(self) -> None:
        """Forget the rows, but not what was asked for."""
        self._plan = None
        self.origin = None
        self._mixed_until_ns = 0

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Return what to infer now, or None."""
        raise NotImplementedError

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Take a result, unless it is a duplicate, overtaken, of before a reset or all past."""
        if not chunks or not self._ledger.take(request):
            return
        new = self._rows_of(chunks, now_ns)
        if end_ns(new) >= now_ns:
            self._mixed_until_ns = 0
            self._plan = self._joined(new, request, now_ns)
            self.origin, self.began_ns = request, new.target0_ns

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Return the rows of the plan from the one in force on."""
        return rows_from(self._plan, situation.now_ns)

    def _rows_of(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> ActionChunk:
        """Return the rows to execute of a result: the first chunk, at its own times.

        The first chunk after a reset begins at its arrival: at rest before the start, skipping the
        rows of the delay would only be a jump.
        """
        return shifted(chunks[0], now_ns) if self._plan is None else chunks[0]

    def _joined(self, new: ActionChunk, request: InferenceRequest, now_ns: int) -> ActionChunk:
        """Return the plan made of the running one and ``new``: here, of ``new`` alone."""
        return new

    def _join(
        self, new: ActionChunk, now_ns: int, switch_ns: int, tau_s: float | None
    ) -> ActionChunk:
        """Return rows of the running plan until ``switch_ns``, then ``new``."""
        if self._plan is not None:
            # The last row before the switch is held until the one after it.
            self._mixed_until_ns = switch_ns + new.dt_ns
        return join_rows(self._plan, new, now_ns=now_ns, switch_ns=switch_ns, tau_s=tau_s)

    def _rows_executed(self, now_ns: int) -> int:
        """Return how many rows of the chunk are past; more than any chunk has without a plan."""
        if self._plan is None or now_ns >= end_ns(self._plan):
            return 1 << 30
        return max((now_ns - self.began_ns) // self.dt_ns, 0)

    def _grid_ns(self, now_ns: int) -> int:
        """Return the newest instant of the plan's grid that is not after ``now_ns``.

        New rows then fall on the same instants as old ones and nothing has to be interpolated.
        """
        if self._plan is None:
            return now_ns
        return now_ns - (now_ns - self._plan.target0_ns) % self.dt_ns

    def _ask(
        self,
        situation: Situation,
        *,
        observation: Observation | None = None,
        target0_ns: int | None = None,
        prefix: Prefix | None = None,
        guidance: Guidance = Guidance.NONE,
    ) -> InferenceRequest:
        """Return a numbered request; ``observation`` is a projected one when given."""
        return InferenceRequest(
            seq=self._ledger.issue(),
            observation=situation.observation if observation is None else observation,
            target0_ns=self._grid_ns(situation.now_ns) if target0_ns is None else target0_ns,
            dt_ns=self.dt_ns,
            delay_assumed_ns=situation.delay_ns,
            prefix=prefix,
            guidance=guidance,
            is_projected=observation is not None,
        )
