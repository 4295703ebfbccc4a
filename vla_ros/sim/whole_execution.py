# SPDX-License-Identifier: Apache-2.0
"""A policy in one piece in virtual time: one inference, one chunk, a delay later."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.executor import StepResult, true_age_ms
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.rows import end_ns, sample
from vla_ros.chunking.segment import stamp_chunk
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import VlaRosError
from vla_ros.latency.buffer import BufferContext
from vla_ros.latency.estimator import DelayConfig as EstimatorConfig
from vla_ros.latency.estimator import DelayEstimator
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import InferenceTimes, stamp_latent
from vla_ros.policies.base import AnswersRequests, Capable, ChunkPolicy, FastPolicy, SlowPolicy
from vla_ros.policies.onnx.contract import exposure_proof
from vla_ros.sim.execution import Counts, ExecutionConfig
from vla_ros.sim.rig.delays import DelayTrace
from vla_ros.types import ActionChunk, Latent, Observation, RobotState, Segment

_MAX_AGE_S = 6.0  # where a policy does not say how old what it saw may be


class JoinedHalves:
    """Both halves of a split policy as one in one piece: every chunk waits for the slow half.

    Attributes:
        max_age_s: of the slow half.
    """

    def __init__(self, slow: SlowPolicy, fast: FastPolicy) -> None:
        self._slow, self._fast = slow, fast
        self.name, self.max_age_s = fast.name, slow.max_age_s
        self.capabilities = PolicyCapabilities(horizon=fast.chunk_rows, dt_ns=fast.chunk_dt_ns)
        if isinstance(fast, Capable):
            self.capabilities = replace(fast.capabilities, has_split_latent=False)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._slow.check_instruction(instruction)

    def reset(self) -> None:
        """Forget everything: a new episode or instruction begins."""
        self._slow.reset()
        self._fast.reset()

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return the chunks of the fast half on a latent of the same images."""
        observation = request.observation
        now_ns = observation.state.tick_ns
        tensors = self._slow.encode(observation)
        times = InferenceTimes(request_ns=now_ns, start_ns=now_ns, end_ns=now_ns, publish_ns=now_ns)
        valid_ns = int(self.max_age_s * NS_PER_S)
        stamp = stamp_latent(observation, tensors, times, seq=request.seq, validity_ns=valid_ns)
        latent = Latent(tensors=tensors, stamp=stamp)
        if isinstance(self._fast, AnswersRequests):
            chunks = self._fast.decode_request(latent, request, now_ns)
        else:
            chunks = (self._fast.decode(latent, observation, now_ns),)
        # The rows begin where the state shown is, which may be a predicted one.
        return tuple(replace(chunk, target0_ns=request.target0_ns) for chunk in chunks)


@dataclass(frozen=True)
class _Answer:
    """Rows that are still being computed; no chunks: they never arrive."""

    request: InferenceRequest
    chunks: tuple[ActionChunk, ...]
    stamp: LatencyStamp | None
    cause: Latent | None
    until_ns: int


class WholeExecution:
    """A policy in one piece; its rows are there a delay later.

    Args:
        policy: answers requests.
        config: delays, strategy.
    """

    def __init__(self, policy: ChunkPolicy, config: ExecutionConfig) -> None:
        self._policy, self._config = policy, config
        self._max_age_ns = int(getattr(policy, "max_age_s", _MAX_AGE_S) * NS_PER_S)
        self.counts = Counts()
        self.begin(0, 0)

    @property
    def due_ns(self) -> int | None:
        """When the rows under way are there, or given up [ns]; None without any."""
        return None if self._pending is None else self._pending.until_ns

    @property
    def instruction_id(self) -> int:
        """The instruction that results must belong to."""
        return self._context.instruction_id

    @property
    def cause(self) -> LatencyStamp | None:
        """The stamp of the observation that the newest chunk was made of."""
        known = None if self._newest is None else self._newest.cause
        return None if known is None else known.stamp

    def begin(self, episode_id: int, seed: int) -> None:
        """Forget everything: a new episode begins, with the delays of ``seed``."""
        config, able = self._config, self._policy.capabilities
        self.counts = Counts()
        self._trace = DelayTrace(config.delay, seed)
        delays = DelayEstimator(EstimatorConfig(warmup=0))
        delays.expect_at_least(round(config.delay.mean_ms * NS_PER_MS))  # known from a warm-up
        form = ChunkFormat(dt_ns=able.dt_ns, horizon=able.horizon)
        strategy = make_strategy(config.strategy, able, config.settings)
        committer = ChunkCommitter(ChunkAdmission(form), delays)
        self._planner = ChunkPlanner(strategy, committer, admits=config.admits)
        self._policy.reset()
        self._context = BufferContext(
            episode_id=episode_id, instruction_id=episode_id, epoch=episode_id
        )
        self._planner.set_context(self._context, 0, None)
        self._pending: _Answer | None = None
        self._newest: _Answer | None = None
        self._planned: ActionChunk | None = None
        self._is_switch = False
        self._seq = 0

    def instruct(self, now_ns: int, state: RobotState) -> Segment | None:
        """Begin another instruction; the rows under way are given up, as they answer the old one.

        Where old instructions count, nothing but the words changes.
        """
        if self._config.old_instruction_counts:
            return None
        self._context = replace(self._context, instruction_id=self._context.instruction_id + 1)
        self._pending = None
        self._policy.reset()
        return self._planner.set_context(self._context, now_ns, state)

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
        if planned is None or self._newest is None or self._newest.cause is None:
            return StepResult(starved_reason="no rows to execute")
        return StepResult(
            segment=planned.segment,
            chunk=planned.rows,
            latent_age_ms=1e-6 * self._newest.cause.stamp.age_ns(now_ns),
            latent_age_true_ms=true_age_ms(self._newest.cause, now_ns),
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
        if answer is None or now_ns < answer.until_ns:
            return
        self._pending = None
        if answer.stamp is None:
            self._planner.give_up(answer.request)
            return
        self._planner.offer(answer.chunks, answer.request, answer.stamp, now_ns)
        self._newest, self._is_switch = answer, True
        self.counts.add_chunk(now_ns)

    def _infer(self, now_ns: int, request: InferenceRequest) -> _Answer:
        delay_ns = self._trace.draw()
        self.counts.slow += 1
        if delay_ns is None:
            lost_ns = now_ns + round(self._config.timeout_s * NS_PER_S)
            return _Answer(request, (), None, None, lost_ns)
        observation, ready_ns = request.observation, now_ns + delay_ns
        try:
            chunks = self._policy.infer(request)
        except VlaRosError:  # as in the stack: a call that fails gives no rows and is asked again
            self.counts.failed += 1
            return _Answer(request, (), None, None, ready_ns)
        self._seq += 1
        cause = self._cause(now_ns, ready_ns, observation)
        stamp = stamp_chunk(
            chunks[0],
            cause,
            observation.state,
            seq=self._seq,
            epoch=self._context.epoch,
            now_ns=ready_ns,
        )
        stamp = stamp.replace(request_ns=now_ns, infer_start_ns=now_ns, infer_end_ns=ready_ns)
        return _Answer(request, chunks, stamp, cause, ready_ns)

    def _cause(self, now_ns: int, ready_ns: int, observation: Observation) -> Latent:
        """Return what the rows owe themselves to, as a latent whose only tensor proves its age."""
        tensors = exposure_proof(observation, tuple(observation.frames))
        times = InferenceTimes(
            request_ns=now_ns, start_ns=now_ns, end_ns=ready_ns, publish_ns=ready_ns
        )
        stamp = stamp_latent(
            observation, tensors, times, seq=self._seq, validity_ns=self._max_age_ns
        )
        return Latent(tensors=tensors, stamp=stamp)
