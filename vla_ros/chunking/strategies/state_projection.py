# SPDX-License-Identifier: Apache-2.0
"""VLASH: infer on the state the arm will have when the new rows begin.

    handover    t_h = time at which ``execution_horizon`` rows of the running chunk are past, or the
                first row after now + delay if that is later
    asked for   rows from t_h on, of a policy that is shown the state predicted for t_h
    plan        old rows before t_h, new ones from t_h on

Two predictions (``vla_ros.chunking.projection``): ``last_row``, the last committed row taken for
the state, and ``impedance``, the committed rows pushed through the tracking model.

Source: VLASH (arXiv 2512.01031; code 22cbabf, ``vlash/run.py``): last commanded action as state,
the next chunk from index 0. Faithful with ``last_row``, without the fine-tuning on offset states
that the paper has. Different: the inference is started by time (remaining rows <= delay) and not a
fixed number of steps before the end, and a late chunk is entered by time, where VLASH blocks.
Joint positions stay the measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.chunking.projection import ImpedanceModel, last_row_state, project_state
from vla_ros.chunking.rows import end_ns, steps_until
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import setting
from vla_ros.types import ActionChunk, Observation


@dataclass(frozen=True, kw_only=True)
class StateProjectionSettings(ImpedanceModel):
    """Settings of ``state_projection``; the model is used by ``impedance``."""

    projection: str = setting(
        "impedance", "how the state is predicted", choices=("impedance", "last_row")
    )
    execution_horizon: int = setting(
        0, "rows of a chunk that are executed; 0: half the chunk", unit="rows", ge=0, le=1000
    )


class StateProjection(PlanStrategy):
    """Hands over at a time that is fixed when the inference begins."""

    name = "state_projection"

    def __init__(self, capabilities: PolicyCapabilities, settings: StateProjectionSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings
        self._wanted = settings.execution_horizon or capabilities.horizon // 2

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when the committed rows last no longer than the inference."""
        plan, now_ns = self._plan, situation.now_ns
        if situation.in_flight > 0:
            return None
        if plan is None or end_ns(plan) <= now_ns:
            return self._ask(situation)
        committed_ns = self.began_ns + self._wanted * self.dt_ns
        ready_ns = now_ns + situation.delay_ns
        if committed_ns >= ready_ns + self.dt_ns:
            return None
        grid_ns = self._grid_ns(now_ns)
        first_ns = grid_ns + steps_until(grid_ns, self.dt_ns, ready_ns) * self.dt_ns
        handover_ns = max(committed_ns, first_ns)
        return self._ask(
            situation, observation=self._predicted(situation, handover_ns), target0_ns=handover_ns
        )

    def _joined(self, new: ActionChunk, request: InferenceRequest, now_ns: int) -> ActionChunk:
        switch_ns = max(now_ns, new.target0_ns)
        return self._join(new, now_ns, switch_ns, None)

    def _predicted(self, situation: Situation, at_ns: int) -> Observation:
        state = situation.state
        if self._settings.projection == "last_row":
            state = last_row_state(state, self._plan, at_ns)
        else:
            state = project_state(state, self._plan, at_ns, self._settings)
        return replace(situation.observation, state=state)
