# SPDX-License-Identifier: Apache-2.0
"""Consensus of candidates: execute the longest prefix that they agree on, then ask again.

    d_i = largest distance of a candidate to the first one at row i
    n   = rows before the first one with d_i > threshold, at least ``min_rows``

The first candidate is executed (of a mixture of horizons the fused chunk; of several samples any).
A candidate counts for the rows that it has. The next inference is asked for when the agreed rows
last no longer than the delay, so that they do not run out.

Source: Mixture of Horizons (arXiv 2511.19433, code at 85106c2, ``pi_moh_dynamic.py``): at least 5
rows, rows with enough active horizons. Different: thresholds in millimetres and radians, where the
source takes the mean gate-weighted L1 disagreement of the first rows of the same chunk times a
ratio; asynchronous, where the source stops at the end of the prefix (delay 0 here); with samples
of one policy in place of horizons it is a test of how sure the policy is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import end_ns, slice_rows
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.rotations import difference
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ConsensusSettings:
    """Settings of ``consensus``."""

    position_mm: float = setting(
        10.0, "distance up to which positions agree", unit="mm", ge=0.0, le=1000.0
    )
    rotation_rad: float = setting(
        0.1, "angle up to which orientations agree", unit="rad", ge=0.0, le=3.2
    )
    min_rows: int = setting(5, "rows executed in any case", unit="rows", ge=1, le=1000)
    min_candidates: int = setting(2, "candidates that must have a row", ge=1, le=64)

    def __post_init__(self) -> None:
        check_fields(self)


def agreed_rows(chunks: tuple[ActionChunk, ...], settings: ConsensusSettings) -> int:
    """Return how many rows of the first chunk the others agree with."""
    first = chunks[0]
    agrees = np.ones(first.horizon, dtype=bool)
    votes = np.ones(first.horizon, dtype=np.int64)
    for other in chunks[1:]:
        n = min(other.horizon, first.horizon)
        apart = np.linalg.norm(other.positions[:n] - first.positions[:n], axis=1)
        turned = np.linalg.norm(difference(first.quats_xyzw[:n], other.quats_xyzw[:n]), axis=1)
        agrees[:n] &= (apart <= 1e-3 * settings.position_mm) & (turned <= settings.rotation_rad)
        votes[:n] += 1
    agrees &= votes >= settings.min_candidates
    n_agreed = first.horizon if agrees.all() else int(np.argmin(agrees))
    return min(max(n_agreed, settings.min_rows), first.horizon)


class Consensus(PlanStrategy):
    """The execution horizon follows from how far candidates agree."""

    name = "consensus"

    def __init__(self, capabilities: PolicyCapabilities, settings: ConsensusSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when the agreed rows last no longer than the inference."""
        if situation.in_flight > 0:
            return None
        if self._plan is not None:
            left_ns = end_ns(self._plan) - situation.now_ns
            if left_ns > situation.delay_ns:
                return None
        return self._ask(situation)

    def _rows_of(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> ActionChunk:
        n = agreed_rows(chunks, self._settings)
        return slice_rows(super()._rows_of(chunks, now_ns), 0, n)
