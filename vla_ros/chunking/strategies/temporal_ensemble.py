# SPDX-License-Identifier: Apache-2.0
"""Temporal ensembling of ACT: average what all chunks say about the same instant.

    a(t) = sum_i w_i a_i(t) / sum_i w_i,   w_i = exp(-m i),  i = 0 for the oldest chunk with a row
                                                             for t

Source: ACT (arXiv 2304.13705), tonyzhaozh/act ``imitate_episodes.py``: m = 0.01, a query at every
step, oldest first. Faithful; rows are aligned by time, and quaternions are averaged linearly with
signs aligned to the oldest one, then normalised (ACT has joint angles). With an inference longer
than a step a query at every step needs ``max_in_flight`` > 1; at 1 it asks as often as the policy
answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import Times, end_ns, row_times, sample, slice_rows
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.rotations import normalised
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TemporalEnsembleSettings:
    """Settings of ``temporal_ensemble``."""

    decay: float = setting(0.01, "m: how much less every newer chunk counts", ge=0.0, le=10.0)
    max_in_flight: int = setting(1, "inferences under way at once", ge=1, le=64)

    def __post_init__(self) -> None:
        check_fields(self)


class TemporalEnsemble(PlanStrategy):
    """Keeps every chunk that still has rows to come."""

    name = "temporal_ensemble"

    def __init__(
        self, capabilities: PolicyCapabilities, settings: TemporalEnsembleSettings
    ) -> None:
        super().__init__(capabilities)
        self._settings = settings
        self._chunks: list[ActionChunk] = []

    def drop_rows(self) -> None:
        """Forget every chunk."""
        super().drop_rows()
        self._chunks.clear()

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask at every step that the policy has room for."""
        if situation.in_flight >= self._settings.max_in_flight:
            return None
        return self._ask(situation)

    def _joined(self, new: ActionChunk, request: InferenceRequest, now_ns: int) -> ActionChunk:
        past_ns = now_ns - 2 * self.dt_ns
        older = [c for c in self._chunks if end_ns(c) >= past_ns]
        self._mixed_until_ns = max((end_ns(c) + self.dt_ns for c in older), default=0)
        self._chunks = [*older, new]
        keep = max((past_ns - new.target0_ns) // self.dt_ns, 0)
        return ensemble(self._chunks, slice_rows(new, keep), self._settings.decay)


def ensemble(chunks: list[ActionChunk], grid: ActionChunk, decay: float) -> ActionChunk:
    """Return the weighted rows of ``chunks``, oldest first, at the times of ``grid``.

    Every time of the grid must be covered by at least one of the chunks.
    """
    times = row_times(grid)
    covered = np.array([_covers(chunk, times) for chunk in chunks])  # (n, H)
    age_rank = np.cumsum(covered, axis=0) - 1
    weights = np.exp(-decay * age_rank) * covered
    weights = weights / weights.sum(axis=0)
    samples = [sample(chunk, times) for chunk in chunks]
    quats = np.array([s.quats_xyzw for s in samples])  # (n, H, 4)
    oldest = quats[np.argmax(covered, axis=0), np.arange(len(times))]
    signs = np.where(np.einsum("nhq,hq->nh", quats, oldest) < 0.0, -1.0, 1.0)
    return replace(
        grid,
        positions=np.einsum("nh,nhx->hx", weights, np.array([s.positions for s in samples])),
        quats_xyzw=normalised(np.einsum("nh,nhq->hq", weights * signs, quats), oldest),
        gripper_width_m=np.einsum("nh,nh->h", weights, [s.gripper_width_m for s in samples]),
    )


def _covers(chunk: ActionChunk, times: Times) -> NDArray[np.bool_]:
    return (times >= chunk.target0_ns) & (times <= end_ns(chunk))
