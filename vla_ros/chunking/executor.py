# SPDX-License-Identifier: Apache-2.0
"""The fast half of execution: newest usable latent and fresh state to a committed segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.chunking.segment import build_segment, position_at
from vla_ros.errors import VlaRosError
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.perception import tick_code
from vla_ros.policies.base import FastPolicy
from vla_ros.types import ActionChunk, Latent, Observation, RobotState, Segment


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step of the fast loop did.

    Attributes:
        segment, chunk: what to execute, or None with ``starved_reason`` saying why.
        latent_age_ms: age of the oldest image behind the latent, NaN without one.
        latent_age_true_ms: the same, read from the tick code inside the image; NaN without one.
        seam_m: distance between the running plan and the new one at the moment of the switch.
    """

    segment: Segment | None = None
    chunk: ActionChunk | None = None
    starved_reason: str = ""
    latent_age_ms: float = float("nan")
    latent_age_true_ms: float = float("nan")
    seam_m: float = 0.0


class ChunkExecutor:
    """Runs a fast policy on the newest usable latent.

    It is handed the time and the state; it reads no clock and no ring.
    Thread-safety: one thread.
    """

    def __init__(self, policy: FastPolicy, buffer: LatentBuffer) -> None:
        self._policy = policy
        self._buffer = buffer
        self._running: ActionChunk | None = None
        self._seq = 0

    def reset(self) -> None:
        """Forget the running plan and the policy's memory: a new episode or instruction begins."""
        self._policy.reset()
        self._running = None

    def step(self, now_ns: int, state: RobotState, instruction: str, epoch: int) -> StepResult:
        """Compute the segment to commit at ``now_ns``.

        A policy that fails gives a starved result with its message: the control host then finishes
        the valid rows it has, brakes and holds.
        """
        latent = self._buffer.newest_usable(now_ns)
        if latent is None:
            self._running = None
            return StepResult(starved_reason=self._buffer.why_empty(now_ns))
        context = self._buffer.context
        observation = Observation(
            state=state,
            instruction=instruction,
            instruction_id=context.instruction_id,
            episode_id=context.episode_id,
        )
        try:
            chunk = self._policy.decode(latent, observation, now_ns)
        except VlaRosError as error:
            return StepResult(starved_reason=f"fast policy: {error}")
        if not _is_finite(chunk):
            return StepResult(starved_reason="fast policy returned rows that are not finite")
        self._seq += 1
        segment = build_segment(chunk, latent, state, seq=self._seq, epoch=epoch, now_ns=now_ns)
        seam_m = 0.0
        if self._running is not None:
            step = position_at(chunk, now_ns) - position_at(self._running, now_ns)
            seam_m = float(np.linalg.norm(step))
        self._running = chunk
        return StepResult(
            segment=segment,
            chunk=chunk,
            latent_age_ms=latent.stamp.age_ns(now_ns) * 1e-6,
            latent_age_true_ms=true_age_ms(latent, now_ns),
            seam_m=seam_m,
        )


def true_age_ms(latent: Latent, now_ns: int) -> float:
    """Return the age of the image by the tick code drawn into it [ms]; NaN without a code.

    Independent of every stamp: it tells whether the stamps say the truth.
    """
    strip = latent.tensors.get("tick_code")
    if strip is None or strip.dtype != np.uint8:
        return float("nan")
    tick_ns = tick_code.decode(strip.astype(np.uint8, copy=False))
    return float("nan") if tick_ns is None else (now_ns - tick_ns) * 1e-6


def _is_finite(chunk: ActionChunk) -> bool:
    rows = (chunk.positions, chunk.quats_xyzw, chunk.gripper_width_m)
    return all(bool(np.isfinite(values).all()) for values in rows)
