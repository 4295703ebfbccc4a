# SPDX-License-Identifier: Apache-2.0
"""Stop, think, run: the arm rests while the policy infers.

    rows 0 .. s-1 of every chunk, row 0 at its arrival; the next request when row s-1 is due

Source: openpi ``ActionChunkBroker`` (packages/openpi-client, 15a9616) and LeRobot's synchronous
rollout (7427f318). Faithful, but for the pause: they block the loop and leave the last servo target
standing; here no rows are returned, so the control host brakes and holds compliantly.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.chunking.rows import shifted, slice_rows
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk


@dataclass(frozen=True, kw_only=True)
class SynchronousSettings:
    """Settings of ``synchronous``."""

    execution_horizon: int = setting(
        0, "rows of each chunk that are executed; 0: all", unit="rows", ge=0, le=1000
    )

    def __post_init__(self) -> None:
        check_fields(self)


class Synchronous(PlanStrategy):
    """Executes a chunk, stops, asks for the next one."""

    name = "synchronous"

    def __init__(self, capabilities: PolicyCapabilities, settings: SynchronousSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when the rows are used up and nothing is being inferred."""
        is_running = self._rows_executed(situation.now_ns) < self._capabilities.horizon
        if situation.in_flight > 0 or is_running:
            return None
        self._plan = None  # thinking: no rows, whatever their times say
        return self._ask(situation)

    def _rows_of(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> ActionChunk:
        wanted = self._settings.execution_horizon or chunks[0].horizon
        return shifted(slice_rows(chunks[0], 0, wanted), now_ns)
