# SPDX-License-Identifier: Apache-2.0
"""What is written down about one episode in lock step, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.chunking.executor import StepResult
from vla_ros.clock import NS_PER_S
from vla_ros.sim.execution import Counts
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.types import ControlMode

_LIFTED_M = 0.03  # above its place on the table a cube has been taken up


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What came of one episode in virtual time. Not a number where there was nothing to measure.

    Attributes:
        duration_s: until success, or until it was given up.
        chunks, chunk_hz: that arrived, and per second from the first to the last.
        slow_inferences: begun by the slow half, or by a policy in one piece; ``failed_calls`` of
            them, or of the fast half, raised an error.
        idle_share: control ticks without rows to execute, after the first ones.
        event_s: when something new happened, after the start; ``reaction_s``: from then to the
            first rows handed over that could know of it.
        lifted_wrong: 1 if another cube was taken up than the one that the instruction at the end
            names, after it was given.
    """

    seed: int
    instruction: str
    success: bool
    duration_s: float
    reason: str
    latent_age_ms_p50: float
    latent_age_ms_max: float
    age_error_ms_max: float
    seam_m_p95: float
    rows_after_expiry: int
    expired_brakes: int
    chunks: int
    chunk_hz: float
    slow_inferences: int
    failed_calls: int
    idle_share: float
    event_s: float
    reaction_s: float
    lifted_wrong: int


class Trace:
    """Numbers collected over one episode."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._ages: list[float] = []
        self._errors: list[float] = []
        self._seams: list[float] = []
        self._ticks = self._tracking = 0
        self._event_ns: int | None = None
        self._reacted_ns: int | None = None
        self._lifted_wrong = False

    def add_step(self, result: StepResult) -> None:
        """Take a step that gave rows."""
        self._ages.append(result.latent_age_ms)
        self._errors.append(abs(result.latent_age_ms - result.latent_age_true_ms))
        if not math.isnan(result.seam_m):
            self._seams.append(result.seam_m)

    def add_event(self, now_ns: int) -> None:
        """Say that something new happened."""
        self._event_ns = now_ns

    def add_commit(self, now_ns: int, knew_ns: int) -> None:
        """Take rows that are handed over; ``knew_ns``: they may know what happened before it."""
        if self._event_ns is not None and self._reacted_ns is None and knew_ns >= self._event_ns:
            self._reacted_ns = now_ns

    def add_ticks(self, columns: dict[str, Any]) -> None:
        """Take what the control host published."""
        tracking = np.asarray(columns["mode"]) == int(ControlMode.TRACK)
        if not self._ticks and not tracking.any():
            return  # before the first rows
        first = 0 if self._ticks else int(np.argmax(tracking))
        self._ticks += len(tracking) - first
        self._tracking += int(tracking.sum())

    def add_truth(self, info: SceneInfo, qpos: Any, wanted: str) -> None:
        """Look whether another cube than the ``wanted`` one is in the air."""
        highest_m = info.cube_side_m / 2 + _LIFTED_M
        self._lifted_wrong |= any(
            info.cube_position(qpos, colour)[2] > highest_m
            for colour in info.cube_qpos
            if colour != wanted
        )

    def result(
        self,
        *,
        seed: int,
        instruction: str,
        success: bool,
        now_ns: int,
        reason: str,
        counts: Counts,
        counters: dict[str, int],
    ) -> EpisodeResult:
        """Return the numbers of the episode."""
        ages, errors = np.array(self._ages or [math.nan]), np.array(self._errors or [math.nan])
        return EpisodeResult(
            seed=seed,
            instruction=instruction,
            success=success,
            duration_s=(now_ns - self._start_ns) / NS_PER_S,
            reason=reason,
            latent_age_ms_p50=float(np.median(ages)),
            latent_age_ms_max=float(ages.max()),
            age_error_ms_max=float(errors.max()),
            seam_m_p95=float(np.percentile(self._seams or [0.0], 95)),
            rows_after_expiry=counters["rows_after_expiry"],
            expired_brakes=counters["expired_brakes"],
            chunks=counts.chunks,
            chunk_hz=counts.chunk_hz,
            slow_inferences=counts.slow,
            failed_calls=counts.failed,
            idle_share=1.0 - self._tracking / self._ticks if self._ticks else 1.0,
            event_s=self._since(self._start_ns, self._event_ns),
            reaction_s=self._since(self._event_ns, self._reacted_ns),
            lifted_wrong=int(self._lifted_wrong),
        )

    @staticmethod
    def _since(begin_ns: int | None, end_ns: int | None) -> float:
        return math.nan if begin_ns is None or end_ns is None else (end_ns - begin_ns) / NS_PER_S
