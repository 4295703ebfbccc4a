# SPDX-License-Identifier: Apache-2.0
"""A slow and a fast half in virtual time, joined by the latent buffer."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.chunking.executor import ChunkExecutor, StepResult
from vla_ros.clock import NS_PER_S
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.latency.estimator import LatencyEstimator
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import (
    InferenceTimes,
    soft_validity_ns,
    stamp_latent,
    validity_ns,
)
from vla_ros.policies.around import has_reused
from vla_ros.policies.base import FastPolicy, LatentContract, SlowPolicy
from vla_ros.sim.execution import Counts, ExecutionConfig
from vla_ros.sim.rig.delays import DelayTrace
from vla_ros.types import Latent, Observation, RobotState, Segment

_P95 = 0.95


@dataclass(frozen=True)
class _Inference:
    """One under way; ``latent`` None: its result never arrives."""

    latent: Latent | None
    until_ns: int


class SplitExecution:
    """A slow and a fast half, joined by the latent buffer.

    Args:
        slow, fast: the halves.
        config: delays of the slow half, how chunks are joined.
    """

    def __init__(self, slow: SlowPolicy, fast: FastPolicy, config: ExecutionConfig) -> None:
        self._slow, self._fast, self._config = slow, fast, config
        self.counts = Counts()
        self.begin(0, 0)

    @property
    def due_ns(self) -> int | None:
        """When the latent under way is there, or given up [ns]; None without one."""
        return None if self._pending is None else self._pending.until_ns

    @property
    def instruction_id(self) -> int:
        """The instruction that latents must belong to."""
        return self._buffer.context.instruction_id

    @property
    def cause(self) -> LatencyStamp | None:
        """The stamp of the latent that the newest rows were made of."""
        return self._cause

    def begin(self, episode_id: int, seed: int) -> None:
        """Forget everything: a new episode begins, with the delays of ``seed``."""
        config = self._config
        self.counts = Counts()
        self._delays = DelayTrace(config.delay, seed)
        self._buffer = LatentBuffer()
        self._executor = ChunkExecutor(
            self._fast, self._buffer, strategy=config.strategy, settings=config.settings
        )
        self._buffer.set_context(self._executor.context(episode_id, episode_id))
        self._slow.reset()
        self._executor.reset()
        self._latency = LatencyEstimator(warmup=0)
        self._period = LatencyEstimator(warmup=0)
        self._pending: _Inference | None = None
        self._cause: LatencyStamp | None = None
        self._latent_seq = self._used_capture_ns = self._published_ns = 0

    def instruct(self, now_ns: int, state: RobotState) -> Segment | None:
        """Begin another instruction; the latent under way is given up, as it answers the old one.

        Where old instructions count, nothing but the words changes.
        """
        if self._config.old_instruction_counts:
            return None
        context = self._buffer.context
        self._slow.reset()
        self._pending, self._used_capture_ns = None, 0
        return self._executor.set_context(
            self._executor.context(context.episode_id, context.instruction_id + 1), now_ns, state
        )

    def look(self, now_ns: int, observation: Observation) -> None:
        """Deliver a latent that is ready; encode new images if none is under way."""
        self._deliver(now_ns)
        if self._pending is None and observation.frames:
            capture_ns = observation.capture_oldest_ns
            if capture_ns > self._used_capture_ns:
                self._used_capture_ns = capture_ns
                self._pending = self._encode(now_ns, observation)
                self._deliver(now_ns)

    def step(self, now_ns: int, observation: Observation) -> StepResult:
        """Decode the newest usable latent with fresh state and images."""
        result = self._executor.step(
            now_ns,
            observation.state,
            observation.instruction,
            observation.episode_id,
            observation.frames,
        )
        if result.segment is not None:
            latent = self._buffer.newest_usable(now_ns)
            self._cause = None if latent is None else latent.stamp
            self.counts.add_chunk(now_ns)
        return result

    def _deliver(self, now_ns: int) -> None:
        if self._pending is None or now_ns < self._pending.until_ns:
            return
        if self._pending.latent is not None:
            self._buffer.offer(self._pending.latent, now_ns)
        self._pending = None

    def _encode(self, now_ns: int, observation: Observation) -> _Inference:
        delay_ns = self._delays.draw()
        self.counts.slow += 1
        if delay_ns is None:
            return _Inference(None, now_ns + round(self._config.timeout_s * NS_PER_S))
        ready_ns = now_ns + delay_ns
        return _Inference(self._latent(now_ns, ready_ns, observation), ready_ns)

    def _latent(self, now_ns: int, ready_ns: int, observation: Observation) -> Latent:
        tensors = self._slow.encode(observation)
        self._latent_seq += 1
        latency_ns, period_ns = self._measured(ready_ns, observation)
        valid_ns = validity_ns(int(self._slow.max_age_s * NS_PER_S), latency_ns, period_ns)
        contract = self._slow if isinstance(self._slow, LatentContract) else None
        stamp = stamp_latent(
            observation,
            tensors,
            InferenceTimes(
                request_ns=now_ns, start_ns=now_ns, end_ns=ready_ns, publish_ns=ready_ns
            ),
            seq=self._latent_seq,
            validity_ns=valid_ns,
            soft_validity_ns=soft_validity_ns(valid_ns, latency_ns, period_ns),
            model_hash=contract.model_hash if contract else 0,
            declared_schema=contract.latent_schema_hash if contract else 0,
            is_cached=has_reused(self._slow),
        )
        return Latent(tensors=tensors, stamp=stamp)

    def _measured(self, ready_ns: int, observation: Observation) -> tuple[int, int]:
        """Return p95 of latency and period [ns], as ``vla_node`` estimates them."""
        latency_ns = ready_ns - observation.capture_oldest_ns
        self._latency.add(latency_ns)
        if self._published_ns:
            self._period.add(ready_ns - self._published_ns)
        self._published_ns = ready_ns
        shortest_ns = round(self._config.period_s * NS_PER_S)
        return self._latency.quantile_ns(_P95), max(
            self._period.quantile_ns(_P95), latency_ns, shortest_ns
        )
