# SPDX-License-Identifier: Apache-2.0
"""A2C2: a small head corrects every row before it is executed, by what is seen now.

    a = a_base + D(observation now, a_base, i / H, age)

Around any strategy that knows which request its rows came from. Corrected are the row in force and
the next ones, up to ``rows_ahead``: as many as the control host interpolates between until the next
step. Rows after them are moved by the last correction, rows before by the first, so that the rows
keep their shape and get their own correction when their time comes.

Source: A2C2 (arXiv 2509.23224): the head per control step, on the newest observation, base action
and index; the age is the feature of TIC-VLA (arXiv 2602.02459). Faithful in the interface; the head
itself is the policy's (``has_correction``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import displaced, slice_rows
from vla_ros.chunking.strategies.base import (
    CorrectionHead,
    InferenceRequest,
    Situation,
)
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.chunking.strategies.naive import NaiveSettings
from vla_ros.config_fields import setting
from vla_ros.rotations import difference
from vla_ros.types import ActionChunk, Observation

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LearnedCorrectionSettings(NaiveSettings):
    """Settings of ``learned_correction``; those of ``naive`` are for the strategy inside."""

    rows_ahead: int = setting(2, "rows corrected at every step", unit="rows", ge=1, le=100)


class LearnedCorrection:
    """Corrects the rows of another strategy."""

    def __init__(self, inner: PlanStrategy, head: CorrectionHead, *, rows_ahead: int = 2) -> None:
        self._inner = inner
        self._head = head
        self._rows_ahead = rows_ahead
        self.name = f"learned_correction({inner.name})"

    @property
    def mixed_until_ns(self) -> int:
        """As of the inner strategy: an offset is no row."""
        return self._inner.mixed_until_ns

    def reset(self) -> None:
        """Forget every row."""
        self._inner.reset()

    def drop_rows(self) -> None:
        """Forget the rows, but not what was asked for."""
        self._inner.drop_rows()

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Return what the inner strategy asks for."""
        return self._inner.request(situation)

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Hand the result on."""
        self._inner.offer(chunks, request, now_ns)

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Return the inner rows, corrected."""
        rows, origin = self._inner.plan(situation), self._inner.origin
        if rows is None or origin is None:
            return rows
        age_ns = situation.now_ns - origin.observation.capture_oldest_ns
        in_force = (situation.now_ns - rows.target0_ns) // rows.dt_ns
        first = min(max(in_force, 0), rows.horizon - 1)
        last = min(first + self._rows_ahead, rows.horizon)
        moves = np.zeros((rows.horizon, 6))
        widths = rows.gripper_width_m.copy()
        for k in range(first, last):
            row = slice_rows(rows, k, k + 1)
            index = self._index(row.target0_ns)
            better = self._head.correct(situation.observation, row, index, age_ns)
            moves[k, :3] = better.positions[0] - row.positions[0]
            moves[k, 3:] = difference(row.quats_xyzw[0], better.quats_xyzw[0])
            widths[k] = better.gripper_width_m[0]
        moves[:first], moves[last:] = moves[first], moves[last - 1]
        return replace(displaced(rows, moves), gripper_width_m=widths)

    def _index(self, row_ns: int) -> float:
        span_ns = max((self._inner.horizon - 1) * self._inner.dt_ns, 1)
        return min(max((row_ns - self._inner.began_ns) / span_ns, 0.0), 1.0)


@dataclass(frozen=True)
class DriftHead:
    """The simplest head: what the policy aims at moves with a known velocity (3,) [m/s] in base.

    The row was made for where that was ``age_ns`` ago; it is carried along.
    """

    velocity_base: Array

    def correct(
        self, observation: Observation, row: ActionChunk, index: float, age_ns: int
    ) -> ActionChunk:
        """Return the row moved by velocity times age."""
        return replace(row, positions=row.positions + 1e-9 * age_ns * self.velocity_base)
