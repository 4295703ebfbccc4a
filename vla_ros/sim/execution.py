# SPDX-License-Identifier: Apache-2.0
"""Ways to run a policy in virtual time: its inferences take a latency that is handed in.

``SplitExecution``: the slow half makes latents, the fast half acts on the newest usable one at
every step. ``WholeExecution``: a policy in one piece, or both halves together, whose rows arrive
after the latency.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.executor import ChunkExecutor, StepResult, true_age_ms
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.rows import end_ns, sample
from vla_ros.chunking.segment import stamp_chunk
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.clock import NS_PER_S
from vla_ros.errors import PolicyError
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.latency.estimator import DelayConfig, DelayEstimator
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import (
    InferenceTimes,
    soft_validity_ns,
    stamp_latent,
    validity_ns,
)
from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy, Tensors
from vla_ros.policies.onnx.contract import exposure_proof
from vla_ros.types import ActionChunk, Latent, Observation


class Execution(Protocol):
    """Runs a policy for whoever moves the time on."""

    @property
    def due_ns(self) -> int | None:
        """When the inference under way ends [ns]; None without one."""

    def begin(self, episode_id: int) -> None:
        """Forget everything: a new episode begins."""

    def look(self, now_ns: int, observation: Observation) -> None:
        """Take what has become ready; begin to infer if nothing is under way and images are new."""

    def step(self, now_ns: int, observation: Observation) -> StepResult:
        """Return what to execute from now on."""


class SplitExecution:
    """A slow and a fast half, joined by the latent buffer.

    Args:
        slow, fast: the halves.
        latency_ns: from an exposure to the publication of its latent [ns].
        period_ns: shortest time between two latents [ns].
        strategy: how chunks are joined, by its name in the registry.
    """

    def __init__(
        self, slow: SlowPolicy, fast: FastPolicy, latency_ns: int, period_ns: int, strategy: str
    ) -> None:
        self._slow = slow
        self._latency_ns, self._period_ns = latency_ns, max(latency_ns, period_ns)
        self._buffer = LatentBuffer()
        self._executor = ChunkExecutor(fast, self._buffer, strategy=strategy)
        self._latent_seq = self._used_capture_ns = 0
        self._pending: Latent | None = None

    @property
    def due_ns(self) -> int | None:
        """When the latent under way is there [ns]; None without one."""
        return None if self._pending is None else self._pending.stamp.publish_ns

    def begin(self, episode_id: int) -> None:
        """Forget everything: a new episode begins."""
        self._buffer.set_context(BufferContext(episode_id=episode_id, instruction_id=episode_id))
        self._slow.reset()
        self._executor.reset()
        self._pending, self._used_capture_ns = None, 0

    def look(self, now_ns: int, observation: Observation) -> None:
        """Deliver a latent that is ready; encode new images if none is under way."""
        self._deliver(now_ns)
        capture_ns = observation.capture_oldest_ns
        if self._pending is None and observation.frames and capture_ns > self._used_capture_ns:
            self._used_capture_ns = capture_ns
            self._pending = self._encode(now_ns, observation)
            self._deliver(now_ns)

    def step(self, now_ns: int, observation: Observation) -> StepResult:
        """Decode the newest usable latent with fresh state and images."""
        return self._executor.step(
            now_ns,
            observation.state,
            observation.instruction,
            observation.episode_id,
            observation.frames,
        )

    def _deliver(self, now_ns: int) -> None:
        if self._pending is not None and now_ns >= self._pending.stamp.publish_ns:
            self._buffer.offer(self._pending, now_ns)
            self._pending = None

    def _encode(self, now_ns: int, observation: Observation) -> Latent:
        tensors = self._slow.encode(observation)
        ready_ns = observation.capture_oldest_ns + self._latency_ns
        self._latent_seq += 1
        times = InferenceTimes(
            request_ns=now_ns, start_ns=now_ns, end_ns=ready_ns, publish_ns=ready_ns
        )
        longest_ns = int(self._slow.max_age_s * NS_PER_S)
        valid_ns = validity_ns(longest_ns, self._latency_ns, self._period_ns)
        stamp = stamp_latent(
            observation,
            tensors,
            times,
            seq=self._latent_seq,
            validity_ns=valid_ns,
            soft_validity_ns=soft_validity_ns(valid_ns, self._latency_ns, self._period_ns),
        )
        return Latent(tensors=tensors, stamp=stamp)


class Whole(Protocol):
    """What answers in one piece.

    Attributes:
        capabilities: what a strategy may ask of it.
        max_age_s: what was seen longer ago must not be acted on [s].
    """

    capabilities: PolicyCapabilities
    max_age_s: float

    def see(self, observation: Observation) -> Tensors:
        """Return what it makes of the images: at least the proof of their exposure."""

    def answer(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, the best one first; raises ``PolicyError``."""

    def reset(self) -> None:
        """Forget everything."""


class TwoHalves:
    """Both halves of a split policy; the request's prefix means nothing to them."""

    def __init__(self, slow: SlowPolicy, fast: FastPolicy) -> None:
        self._slow, self._fast = slow, fast
        self.capabilities = PolicyCapabilities(horizon=fast.chunk_rows, dt_ns=fast.chunk_dt_ns)
        self.max_age_s = slow.max_age_s

    def see(self, observation: Observation) -> Tensors:
        """Return the latent."""
        return self._slow.encode(observation)

    def answer(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return the rows; they begin where the state shown is, which may be a predicted one."""
        rows = self._fast.decode(latent, request.observation, now_ns)
        return (replace(rows, target0_ns=request.target0_ns),)

    def reset(self) -> None:
        """Forget everything."""
        self._slow.reset()
        self._fast.reset()


class OnePiece:
    """A policy in one piece, with whatever it can do: prefixes, guidance, candidates."""

    def __init__(self, policy: ChunkPolicy, max_age_s: float) -> None:
        self._policy = policy
        self.capabilities = policy.capabilities
        self.max_age_s = max_age_s

    def see(self, observation: Observation) -> Tensors:
        """Return the proof of when the images were exposed."""
        return exposure_proof(observation, sorted(observation.frames))

    def answer(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return the policy's chunks."""
        return self._policy.infer(request)

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()


@dataclass(frozen=True)
class _Answer:
    """Rows that are still being computed."""

    request: InferenceRequest
    chunks: tuple[ActionChunk, ...]
    stamp: LatencyStamp
    latent: Latent


class WholeExecution:
    """A policy in one piece; its rows are there a latency later.

    Args:
        policy: the policy.
        latency_ns: from an exposure to the rows it led to [ns].
        strategy: how chunks are joined, by its name in the registry.

    Attributes:
        failures: answers that the policy refused to give; they are asked for again.

    Raises:
        ConfigError: if the policy lacks what the strategy needs.
    """

    def __init__(self, policy: Whole, latency_ns: int, strategy: str) -> None:
        self._policy, self._latency_ns = policy, latency_ns
        able = policy.capabilities
        form = ChunkFormat(dt_ns=able.dt_ns, horizon=able.horizon)
        delays = DelayEstimator(DelayConfig(warmup=0))
        delays.expect_at_least(latency_ns)  # known from a warm-up
        committer = ChunkCommitter(ChunkAdmission(form), delays)
        # Who executes naively judges nothing either.
        admits = not strategy.startswith("naive")
        self._planner = ChunkPlanner(make_strategy(strategy, able), committer, admits=admits)
        self._pending: _Answer | None = None
        self._newest: _Answer | None = None
        self._planned: ActionChunk | None = None
        self._is_switch = False
        self._seq = 0
        self.failures = 0

    @property
    def due_ns(self) -> int | None:
        """When the rows under way are there [ns]; None without any."""
        return None if self._pending is None else self._pending.stamp.publish_ns

    def begin(self, episode_id: int) -> None:
        """Forget everything: a new episode begins."""
        self._policy.reset()
        self._planner.reset()
        context = BufferContext(episode_id=episode_id, instruction_id=episode_id, epoch=episode_id)
        self._planner.set_context(context, 0, None)
        self._pending = self._newest = self._planned = None

    def look(self, now_ns: int, observation: Observation) -> None:
        """Deliver rows that are ready; ask for new ones if the strategy wants to."""
        self._deliver(now_ns)
        if not observation.frames or self._pending is not None:
            return
        request = self._planner.request(now_ns, observation)
        if request is not None:
            self._pending = self._infer(now_ns, request)
            self._deliver(now_ns)

    def step(self, now_ns: int, observation: Observation) -> StepResult:
        """Execute the rows that are there."""
        planned = self._planner.plan(now_ns, observation)
        if planned is None or self._newest is None:
            return StepResult(starved_reason="no rows to execute")
        return StepResult(
            segment=planned.segment,
            chunk=planned.rows,
            latent_age_ms=1e-6 * self._newest.latent.stamp.age_ns(now_ns),
            latent_age_true_ms=true_age_ms(self._newest.latent, now_ns),
            seam_m=self._seam_m(planned.rows, now_ns),
        )

    def _seam_m(self, rows: ActionChunk, now_ns: int) -> float:
        """Return how far the new rows are from the ones before; NaN if they are the same ones."""
        old, self._planned = self._planned, rows
        is_switch, self._is_switch = self._is_switch, False
        if old is None or not is_switch or now_ns > end_ns(old):
            return float("nan")
        at = np.array([now_ns])
        return float(np.linalg.norm(sample(rows, at).positions - sample(old, at).positions))

    def _deliver(self, now_ns: int) -> None:
        answer = self._pending
        if answer is not None and now_ns >= answer.stamp.publish_ns:
            self._planner.offer(answer.chunks, answer.request, answer.stamp, now_ns)
            self._pending, self._newest, self._is_switch = None, answer, True

    def _infer(self, now_ns: int, request: InferenceRequest) -> _Answer | None:
        observation = request.observation
        tensors = self._policy.see(observation)
        ready_ns = max(now_ns, observation.capture_oldest_ns + self._latency_ns)
        self._seq += 1
        times = InferenceTimes(
            request_ns=now_ns, start_ns=now_ns, end_ns=ready_ns, publish_ns=ready_ns
        )
        valid_ns = int(self._policy.max_age_s * NS_PER_S)
        cause = stamp_latent(observation, tensors, times, seq=self._seq, validity_ns=valid_ns)
        latent = Latent(tensors=tensors, stamp=cause)
        try:
            chunks = self._policy.answer(latent, request, now_ns)
        except PolicyError:
            self.failures += 1
            self._planner.give_up(request)
            return None
        stamp = stamp_chunk(
            chunks[0],
            latent,
            observation.state,
            seq=self._seq,
            epoch=observation.episode_id,
            now_ns=ready_ns,
        )
        stamp = stamp.replace(request_ns=now_ns, infer_start_ns=now_ns, infer_end_ns=ready_ns)
        return _Answer(request, chunks, stamp, latent)
