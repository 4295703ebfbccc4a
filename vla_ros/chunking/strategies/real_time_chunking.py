# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking: freeze what will be executed anyway, inpaint the rest.

    ask when s >= execution_horizon rows of the running chunk are past (and nothing is in flight)
    frozen    d = rows due before now + delay
    weights   1 on [0, d), schedule on [d, end), 0 after;  end = H - s (paper) or a fixed number
    plan      prev[:d] ++ new[d:], with the d that passed, whatever was assumed

``denoising`` has the equations. As three strategies of the registry:

- ``rtc_vjp``: the paper (arXiv 2506.07339; Kinetix code cc6c5f5): true Jacobian, schedule exp,
  end = H - s, g_max 5. Faithful; d is the p95 that the runtime estimates, not the largest of the
  last ten delays.
- ``rtc_identity``: LeRobot 7427f318: identity Jacobian, schedule linear, end = its
  ``execution_horizon`` 10, g_max 10. Different: rows beyond the running plan repeat its last row
  with weight 0; there they are zeros and bound (issue #4454), and d comes from a running maximum.
- ``rtc_trained``: training-time RTC (arXiv 2512.05964): d clean rows, d <= what the policy was
  trained for. If the real delay exceeds d, the chunk is admitted and its seam faded (C1), where
  LeRobot discards it and then starves (review of PR #4056).

The first chunk after a reset runs from row 0 at its arrival, as in the paper's algorithm, where it
exists before the clock starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.chunking.strategies.base import (
    Guidance,
    InferenceRequest,
    PolicyCapabilities,
    Situation,
)
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.chunking.strategies.denoising import SCHEDULES
from vla_ros.chunking.strategies.prefix import make_prefix
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk

KINDS = ("identity", "vjp", "trained")


@dataclass(frozen=True, kw_only=True)
class RealTimeChunkingSettings:
    """Settings of ``rtc_vjp``, ``rtc_identity`` and ``rtc_trained``; defaults of the paper."""

    guidance: str = setting("vjp", "how the policy is tied to the prefix", choices=KINDS)
    execution_horizon: int = setting(
        0, "rows past before it asks; 0: half the chunk", unit="rows", ge=0, le=1000
    )
    schedule: str = setting("exp", "weights after the frozen rows", choices=SCHEDULES)
    weights_end: int = setting(
        0, "first row that is not bound; 0: H - s", unit="rows", ge=0, le=1000
    )
    max_guidance_weight: float = setting(5.0, "largest factor of the correction", ge=0.0, le=100.0)
    fade_s: float = setting(
        0.1, "fade of a seam behind its prefix (trained)", unit="s", ge=1e-3, le=2.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


LEROBOT = RealTimeChunkingSettings(
    guidance="identity", schedule="linear", weights_end=10, max_guidance_weight=10.0
)
TRAINED = RealTimeChunkingSettings(guidance="trained", schedule="zeros")


class RealTimeChunking(PlanStrategy):
    """Asks for chunks that continue the running one.

    Attributes:
        late_joins: chunks that came after the rows they were conditioned on.
    """

    def __init__(
        self, capabilities: PolicyCapabilities, settings: RealTimeChunkingSettings
    ) -> None:
        super().__init__(capabilities)
        self._settings = settings
        self._guidance = Guidance(settings.guidance)
        self._wait = settings.execution_horizon or capabilities.horizon // 2
        self.name = f"rtc_{settings.guidance}"
        self.late_joins = 0

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when s rows are past, with the rest of the plan as prefix."""
        if situation.in_flight > 0 or self._rows_executed(situation.now_ns) < self._wait:
            return None
        if self._plan is None:
            return self._ask(situation)
        is_trained = self._guidance is Guidance.TRAINED
        prefix = make_prefix(
            self._plan,
            target0_ns=self._grid_ns(situation.now_ns),
            horizon=self._capabilities.horizon,
            arrival_ns=situation.now_ns + situation.delay_ns,
            schedule=self._settings.schedule,
            end=self._settings.weights_end,
            frozen_max=self._capabilities.trained_prefix_max if is_trained else 0,
            max_guidance_weight=self._settings.max_guidance_weight,
        )
        if prefix is None:
            return self._ask(situation)
        return self._ask(situation, prefix=prefix, guidance=self._guidance)

    def _joined(self, new: ActionChunk, request: InferenceRequest, now_ns: int) -> ActionChunk:
        frozen = 0 if request.prefix is None else request.prefix.frozen_len
        if self._plan is None or now_ns <= request.target0_ns + frozen * self.dt_ns:
            return new
        self.late_joins += 1
        if self._guidance is not Guidance.TRAINED:
            return new
        return self._join(new, now_ns, now_ns, self._settings.fade_s)
