# SPDX-License-Identifier: Apache-2.0
"""Asynchronous without any joining: switch to the new rows when they are there.

    plan = prev[:d] ++ new[d:],  d = rows of the new grid that are due before the arrival

Every row keeps the time it was made for (index shift, level 0 of the compensation ladder). With
``from_zero`` row 0 is executed at the arrival instead, as clients do that count actions and do not
compensate latency: the whole chunk then runs late by the delay.

Source: "naive async" of the RTC paper (arXiv 2506.07339) and of its Kinetix code (cc6c5f5), which
asks after s rows; ``execution_horizon`` 0 asks whenever nothing is in flight. Faithful; the first
chunk runs from row 0 at its arrival, as there it exists before the clock starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.chunking.rows import shifted
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk


@dataclass(frozen=True, kw_only=True)
class NaiveSettings:
    """Settings of ``naive``."""

    execution_horizon: int = setting(
        0,
        "rows of a chunk that are past before the next one is asked for; 0: ask at once",
        unit="rows",
        ge=0,
        le=1000,
    )
    from_zero: bool = setting(False, "execute row 0 at the arrival instead of rows at their times")

    def __post_init__(self) -> None:
        check_fields(self)


class Naive(PlanStrategy):
    """Switches to the newest chunk without blending."""

    name = "naive"

    def __init__(self, capabilities: PolicyCapabilities, settings: NaiveSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when enough rows are past and nothing is being inferred."""
        executed = self._rows_executed(situation.now_ns)
        if situation.in_flight > 0 or executed < self._settings.execution_horizon:
            return None
        return self._ask(situation)

    def _rows_of(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> ActionChunk:
        if self._settings.from_zero:
            return shifted(chunks[0], now_ns)
        return super()._rows_of(chunks, now_ns)
