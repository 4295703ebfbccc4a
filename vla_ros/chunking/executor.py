# SPDX-License-Identifier: Apache-2.0
"""The fast half of execution: newest usable latent and fresh state to a committed segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import BrakeLimits, ChunkCommitter
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.segment import position_at, stamp_chunk
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.errors import VlaRosError
from vla_ros.latency.admission import Admission
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.perception import tick_code
from vla_ros.policies.around import answered, capabilities_of_fast
from vla_ros.policies.base import FastPolicy, LatentContract
from vla_ros.types import ActionChunk, CameraFrame, Latent, Observation, RobotState, Segment

_SLOWEST = 0.2  # the twist that a policy is told grows by the reciprocal at most


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step of the fast loop did.

    Attributes:
        segment, chunk: what to execute, or None with ``starved_reason`` saying why.
        latent_age_ms: age of the oldest image behind the latent, NaN without one.
        latent_age_true_ms: the same, read from the tick code inside the image; NaN without one.
        seam_m: distance between the running plan and the new one at the moment of the switch;
            NaN if no rows were switched.
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

    def __init__(
        self,
        policy: FastPolicy,
        buffer: LatentBuffer,
        limits: BrakeLimits | None = None,
        strategy: str = "timed",
        settings: Any = None,
    ) -> None:
        self._policy = policy
        self._buffer = buffer
        form = ChunkFormat(dt_ns=policy.chunk_dt_ns, horizon=policy.chunk_rows)
        self._committer = ChunkCommitter(ChunkAdmission(form), limits=limits)
        self.capabilities = capabilities_of_fast(policy)
        self._strategy_name = strategy
        self._planner = ChunkPlanner(
            make_strategy(strategy, self.capabilities, settings), self._committer
        )
        self._running: ActionChunk | None = None
        self._newest: ActionChunk | None = None
        self._seq = 0

    @property
    def planner(self) -> ChunkPlanner:
        """What asks, admits, joins and commits; its strategy can be changed at any time."""
        return self._planner

    @property
    def committer(self) -> ChunkCommitter:
        """What admits the chunks; its counts say why some were not."""
        return self._committer

    @property
    def strategy_name(self) -> str:
        """The strategy in use, as the registry calls it."""
        return self._strategy_name

    def context(self, episode_id: int, instruction_id: int) -> BufferContext:
        """Return what latents must belong to; also weights and schema, if the policy states any."""
        contract = self._policy if isinstance(self._policy, LatentContract) else None
        return BufferContext(
            episode_id=episode_id,
            instruction_id=instruction_id,
            schema_hash=contract.latent_schema_hash if contract else 0,
            model_hash=contract.model_hash if contract else 0,
        )

    def use(self, strategy: str) -> None:
        """Join chunks another way from the next step on.

        Raises:
            ConfigError: if there is none of this name, or the policy lacks what it needs.
        """
        self._planner.use(make_strategy(strategy, self.capabilities))
        self._strategy_name = strategy

    def reset(self) -> None:
        """Forget the running plan and the policy's memory: a new episode or instruction begins."""
        self._policy.reset()
        self._planner.reset()
        self._running = None

    def set_context(
        self, context: BufferContext, now_ns: int, state: RobotState | None
    ) -> Segment | None:
        """Begin a new episode or instruction; return what may still be executed of the old one.

        That is at most min(braking time, three rows); the policy is asked at once, at the next
        step. ``state``: how fast the arm is now, None if nobody knows.
        """
        if context == self._buffer.context:
            return None
        self._buffer.set_context(context)
        epoch = self._committer.admission.context.epoch
        rest = self._planner.set_context(_of_chunks(context, epoch), now_ns, state)
        self._policy.reset()
        self._running = None
        return rest

    def step(
        self,
        now_ns: int,
        state: RobotState,
        instruction: str,
        epoch: int,
        frames: Mapping[str, CameraFrame] | None = None,
    ) -> StepResult:
        """Compute the segment to commit at ``now_ns``.

        ``frames``: fresh images, for a policy whose fast half looks at some.

        A policy that fails gives a starved result with its message: the control host then finishes
        the valid rows it has, brakes and holds.
        """
        context = self._buffer.context
        self._planner.set_context(_of_chunks(context, epoch), now_ns, None)
        latent = self._buffer.newest_usable(now_ns)
        if latent is None:
            self._running = None
            return StepResult(starved_reason=self._buffer.why_empty(now_ns))
        observation = Observation(
            state=_in_row_time(state, latent.stamp.speed_scale(now_ns)),
            instruction=instruction,
            instruction_id=context.instruction_id,
            episode_id=context.episode_id,
            frames=frames or {},
        )
        refusal = self._decode(latent, observation, now_ns, epoch)
        planned = None if refusal else self._planner.plan(now_ns, observation)
        if planned is None or self._newest is None:
            return StepResult(starved_reason=refusal or "no rows to execute")
        # What the policy says of itself holds for its newest rows, however they were joined.
        chunk = dataclasses.replace(planned.rows, phase=self._newest.phase, done=self._newest.done)
        seam_m = 0.0
        if self._running is not None:
            step = position_at(chunk, now_ns) - position_at(self._running, now_ns)
            seam_m = float(np.linalg.norm(step))
        self._running = chunk
        return StepResult(
            segment=planned.segment,
            chunk=chunk,
            latent_age_ms=latent.stamp.age_ns(now_ns) * 1e-6,
            latent_age_true_ms=true_age_ms(latent, now_ns),
            seam_m=seam_m,
        )

    def _decode(self, latent: Latent, observation: Observation, now_ns: int, epoch: int) -> str:
        """Ask the policy if the strategy wants to; return why there are no rows of it, if so."""
        request = self._planner.request(now_ns, observation)
        if request is None:
            return ""
        try:
            chunks = answered(self._policy, latent, request, now_ns)
        except VlaRosError as error:
            self._planner.give_up(request)
            return f"fast policy: {error}"
        self._seq += 1
        stamp = stamp_chunk(
            chunks[0], latent, observation.state, seq=self._seq, epoch=epoch, now_ns=now_ns
        )
        if observation.frames:
            newest_ns = max(stamp.capture_newest_ns, observation.capture_newest_ns)
            stamp = stamp.replace(capture_newest_ns=newest_ns)
        verdict = self._planner.offer(chunks, request, stamp, now_ns)
        if verdict.admission is Admission.ACCEPTED:
            self._newest = chunks[0]
            return ""
        return f"rows of the fast policy refused: {verdict.admission.value}"


def true_age_ms(latent: Latent, now_ns: int) -> float:
    """Return the age of the image by the tick code drawn into it [ms]; NaN without a code.

    Independent of every stamp: it tells whether the stamps say the truth.
    """
    strip = latent.tensors.get("tick_code")
    if strip is None or strip.dtype != np.uint8:
        return float("nan")
    tick_ns = tick_code.decode(strip.astype(np.uint8, copy=False))
    return float("nan") if tick_ns is None else (now_ns - tick_ns) * 1e-6


def _of_chunks(context: BufferContext, epoch: int) -> BufferContext:
    """What the chunks made of the latents of ``context`` must belong to."""
    return dataclasses.replace(context, epoch=epoch)


def _in_row_time(state: RobotState, scale: float) -> RobotState:
    """Return the state with the twist of the reference per row time.

    The control host slows old rows down. Rows that begin with the slowed twist would be slowed once
    more at every step; begun with that of the rows, the motion goes on with the twist it has.
    """
    if scale >= 1.0:
        return state
    return dataclasses.replace(state, twist_ref_base=state.twist_ref_base / max(scale, _SLOWEST))
