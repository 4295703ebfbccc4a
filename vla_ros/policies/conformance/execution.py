# SPDX-License-Identifier: Apache-2.0
"""Any backend through the executor that runs it live; nothing here knows what its decoder is."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.errors import VlaRosError
from vla_ros.latency.admission import Admission, BufferContext
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.latency.estimator import DelayConfig, DelayEstimator
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy
from vla_ros.policies.conformance.subject import latent_of
from vla_ros.types import Observation, Segment

_EPOCH = 1
_VALID_NS = 10_000_000_000


@dataclass
class Execution:
    """What came of some steps.

    Attributes:
        segments: what was committed, None for a step without.
        refusals: why there was nothing, of the steps without.
    """

    segments: list[Segment | None] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def add(self, segment: Segment | None, refusal: str = "") -> None:
        """Take what came of a step."""
        self.segments.append(segment)
        if segment is None:
            self.refusals.append(refusal or "no rows")

    @property
    def committed(self) -> int:
        """Steps that committed rows."""
        return sum(segment is not None for segment in self.segments)


def execute_split(
    slow: SlowPolicy, fast: FastPolicy, observations: tuple[Observation, ...]
) -> Execution:
    """Run both halves, one latent and one step of the fast loop per observation."""
    buffer = LatentBuffer()
    executor = ChunkExecutor(fast, buffer)
    first = observations[0]
    context = BufferContext(episode_id=first.episode_id, instruction_id=first.instruction_id)
    executor.set_context(context, first.state.tick_ns, None)
    result = Execution()
    for observation in observations:
        now_ns = observation.state.tick_ns
        try:
            latent = latent_of(observation, slow.encode(observation))
        except VlaRosError as error:
            result.add(None, str(error))
            continue
        buffer.offer(latent, now_ns)
        step = executor.step(now_ns, observation.state, observation.instruction, _EPOCH)
        result.add(step.segment, step.starved_reason)
    return result


def execute_whole(policy: ChunkPolicy, observations: tuple[Observation, ...]) -> Execution:
    """Run a policy in one piece, which answers at once, through the planner of the executor."""
    able = policy.capabilities
    form = ChunkFormat(dt_ns=able.dt_ns, horizon=able.horizon)
    committer = ChunkCommitter(ChunkAdmission(form), DelayEstimator(DelayConfig(warmup=0)))
    planner = ChunkPlanner(make_strategy("naive", able), committer)
    first = observations[0]
    planner.set_context(
        BufferContext(
            episode_id=first.episode_id, instruction_id=first.instruction_id, epoch=_EPOCH
        ),
        first.state.tick_ns,
        None,
    )
    result = Execution()
    for seq, observation in enumerate(observations, start=1):
        now_ns = observation.state.tick_ns
        request = planner.request(now_ns, observation)
        refusal = ""
        if request is not None:
            try:
                chunks = policy.infer(request)
                stamp = _stamp(observation, able.dt_ns, seq)
                verdict = planner.offer(chunks, request, stamp, now_ns)
                if verdict.admission is not Admission.ACCEPTED:
                    refusal = verdict.admission.value
            except VlaRosError as error:
                planner.give_up(request)
                refusal = str(error)
        planned = None if refusal else planner.plan(now_ns, observation)
        result.add(None if planned is None else planned.segment, refusal)
    return result


def _stamp(observation: Observation, dt_ns: int, seq: int) -> LatencyStamp:
    now_ns = observation.state.tick_ns
    return LatencyStamp(
        kind=StampKind.CHUNK,
        seq=seq,
        episode_id=observation.episode_id,
        epoch=_EPOCH,
        instruction_id=observation.instruction_id,
        capture_oldest_ns=observation.capture_oldest_ns,
        capture_newest_ns=observation.capture_newest_ns,
        request_ns=now_ns,
        publish_ns=now_ns,
        dt_ns=dt_ns,
        hard_expire_ns=now_ns + _VALID_NS,
    )
