# SPDX-License-Identifier: Apache-2.0
"""Any strategy, its jumps faded: level 2 of the compensation ladder (``vla_ros.chunking.seam``).

Source: axol #191, an offset with exponential decay, which is C0; made C1 here.

Relation to the control host, which fades what it sees at a switch of segments within 30 ms: that
one is there for any segment, of any source, and short, because it knows nothing of the rows to
come. This one works on rows and is as slow as the policy's rows allow, so the host sees a motion
without a jump and fades only what is left between two rows. One jump is never faded twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.chunking.rows import displaced, row_times
from vla_ros.chunking.seam import Offset, jump
from vla_ros.chunking.strategies.base import InferenceRequest, Situation, Strategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk


@dataclass(frozen=True, kw_only=True)
class SeamFadeSettings:
    """Settings of the fade."""

    time_constant_s: float = setting(
        0.1, "time constant of the decaying offset", unit="s", ge=1e-3, le=2.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


class SeamFade:
    """Any strategy, its jumps faded. Plans that go on as they were pass unchanged."""

    def __init__(self, inner: Strategy, settings: SeamFadeSettings) -> None:
        self._inner = inner
        self._tau_s = settings.time_constant_s
        self._last: ActionChunk | None = None
        self._offset: Offset | None = None
        self.name = f"{inner.name}+fade"

    @property
    def mixed_until_ns(self) -> int:
        """As of the inner strategy: an offset is no row."""
        return self._inner.mixed_until_ns

    def reset(self) -> None:
        """Forget rows and offset."""
        self._inner.reset()
        self._last = self._offset = None

    def drop_rows(self) -> None:
        """Forget rows and offset, but not what was asked for."""
        self._inner.drop_rows()
        self._last = self._offset = None

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Return what the inner strategy asks for."""
        return self._inner.request(situation)

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Hand the result on."""
        self._inner.offer(chunks, request, now_ns)

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Return the inner rows plus what is left of the offset of all switches so far."""
        rows, now_ns = self._inner.plan(situation), situation.now_ns
        old, self._last = self._last, rows
        if rows is None or old is None:
            self._offset = None
            return rows
        step = jump(old, rows, now_ns)
        if self._offset is not None:
            left = self._offset.advanced(now_ns, self._tau_s)
            step = Offset(now_ns, step.value + left.value, step.rate + left.rate)
        self._offset = step
        return displaced(rows, step.values(row_times(rows), self._tau_s))
