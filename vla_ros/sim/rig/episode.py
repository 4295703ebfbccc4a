# SPDX-License-Identifier: Apache-2.0
"""One episode in virtual time: a strategy in front of the C++ control host and law.

The executor's step runs every ``dt``, as a 30 Hz loop would; the control host runs every tick
between. A policy takes as long as the trace says, one call at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import vla_ros_core as core
from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.registry import default_settings, make_strategy
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.latency.admission import BufferContext
from vla_ros.latency.estimator import DelayConfig as EstimatorConfig
from vla_ros.latency.estimator import DelayEstimator
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.rig.case import RigCase
from vla_ros.sim.rig.delays import DelayTrace
from vla_ros.sim.rig.expert import Sight
from vla_ros.sim.rig.metrics import EpisodeResult, Recorder
from vla_ros.sim.rig.scenario import Judge, Scenario
from vla_ros.sim.rig.surrogate import SurrogateHead, SurrogatePolicy
from vla_ros.types import ActionChunk, Observation, RobotState

SOURCE = "policy"
_LEASE_NS = NS_PER_S
_EPISODE, _EPOCH = 1, 1
_NEVER_NS = 3600 * NS_PER_S
_SMALL_IMAGE_BLUR = 5.0  # errors of a small image, as a multiple of those of the full one


@dataclass
class _Pending:
    """An inference that is not done. ``ready_ns`` None: its result will never arrive."""

    request: InferenceRequest | None  # None: a latent
    chunks: tuple[ActionChunk, ...]
    sight: Sight
    asked_ns: int
    ready_ns: int | None
    instruction: int  # in force when it was asked for


class Episode:
    """State of one episode."""

    def __init__(
        self,
        case: RigCase,
        seed: int,
        start_ns: int,
        host: core.ControlHost,
        segments: core.SegmentWriter,
        lease: core.LeaseWriter,
    ) -> None:
        self._case, self._seed = case, seed
        self._host, self._segments, self._lease = host, segments, lease
        self._start_ns = self._now_ns = start_ns
        self._scenario = Scenario(case.scenario, seed)
        self._judge = Judge(self._scenario)
        self._policy = SurrogatePolicy(
            self._scenario, case.expert, case.policy, seed, start_ns, has_split_latent=case.split
        )
        head = None
        if case.policy.has_correction:
            head = SurrogateHead(self._policy.expert, case.policy, seed, start_ns)
        settings = default_settings(case.strategy) if case.settings is None else case.settings
        able = self._policy.capabilities
        strategy = make_strategy(case.strategy, able, settings, head=head)
        form = ChunkFormat(dt_ns=able.dt_ns, horizon=able.horizon)
        delays = DelayEstimator(EstimatorConfig(warmup=0))
        if not case.split:
            delays.expect_at_least(round(case.delay.mean_ms * NS_PER_MS))  # known from a warm-up
        self._planner = ChunkPlanner(
            strategy, ChunkCommitter(ChunkAdmission(form), delays), admits=case.admits
        )
        self._delays = DelayTrace(case.delay, seed)
        self._pending: list[_Pending] = []
        self._sight: Sight | None = None  # newest latent of a split policy
        self._instruction = 1
        self._context = BufferContext(episode_id=0, instruction_id=0)
        self._next_slow_ns = 0
        self._chunks = 0
        self._recorder = Recorder(case.expert.dt_ns, start_ns)
        self._stall_ns = (0, 0)
        if case.stall_s > 0.0:
            begin_ns = start_ns + round(case.stall_at_s * NS_PER_S)
            self._stall_ns = (begin_ns, begin_ns + round(case.stall_s * NS_PER_S))
            self._recorder.expect_stall(*self._stall_ns)
        if case.warm_start:
            self._sight = self._policy.expert.look(-1e-9 * (self._delays.draw() or 0), 1)

    def run(self, reader: core.StateReader) -> EpisodeResult:
        """Step until the judge has seen enough."""
        dt_ns = self._case.expert.dt_ns
        period_ns = round(NS_PER_S / self._case.control.rate_hz)
        ticks, rest = divmod(dt_ns, period_ns)
        if rest:
            raise ValueError(f"dt must be a multiple of the control period, got {dt_ns} ns")
        head = reader.head
        while not self._judge.verdict.is_final:
            self._step()
            self._now_ns = self._host.run_ticks(self._now_ns, ticks)
            columns = reader.since(head)
            head = columns["head"]
            self._recorder.add_ticks(columns)
            self._judge.update(
                (columns["tick_ns"] - self._start_ns) * 1e-9,
                columns["position"],
                self._recorder.yaw(columns["quat_xyzw"]),
                columns["twist"][:, :3],
                columns["gripper_target_m"],
            )
        return self._recorder.result(
            seed=self._seed,
            verdict=self._judge.verdict,
            scenario=self._scenario,
            counters=self._host.counters(),
        )

    def _step(self) -> None:
        now_ns = self._now_ns
        state = to_robot_state(self._host.state())
        self._check_instruction(state)
        self._deliver()
        if self._case.split:
            self._slow_step()
        observation = self._observation(state)
        request = self._planner.request(now_ns, observation)
        if request is not None:
            self._infer(request)
        planned = self._planner.plan(now_ns, observation)
        self._recorder.add_plan(None if planned is None else planned.rows, now_ns)
        self._lease.write(SOURCE, _EPOCH, now_ns + _LEASE_NS, self._context.instruction_id)
        if planned is not None:
            write_segment(self._segments, planned.segment)

    def _check_instruction(self, state: RobotState) -> None:
        self._instruction = self._scenario.instruction_at(self._t_s(self._now_ns))
        is_new = self._instruction != self._context.instruction_id
        if self._context.instruction_id and (not is_new or self._case.old_instruction_counts):
            return
        self._context = BufferContext(
            episode_id=_EPISODE, instruction_id=self._instruction, epoch=_EPOCH
        )
        rest = self._planner.set_context(self._context, self._now_ns, state)
        if rest is not None:
            write_segment(self._segments, rest)
        if not self._case.old_instruction_counts:
            self._pending = []
        self._sight = self._sight if self._case.warm_start else None

    def _observation(self, state: RobotState) -> Observation:
        return Observation(
            state=state,
            instruction=str(self._instruction),
            instruction_id=self._instruction,
            episode_id=_EPISODE,
        )

    def _deliver(self) -> None:
        """Hand over what is ready, in the order in which it became so."""
        now_ns = self._now_ns
        timeout_ns = round(self._case.timeout_s * NS_PER_S)
        done = [p for p in self._pending if p.ready_ns is not None and p.ready_ns <= now_ns]
        lost = [p for p in self._pending if p.ready_ns is None and now_ns - p.asked_ns > timeout_ns]
        self._pending = [p for p in self._pending if p not in done and p not in lost]
        for p in lost:
            if p.request is not None:
                self._planner.give_up(p.request)
        for p in sorted(done, key=lambda p: p.ready_ns or 0):
            self._take(p)

    def _take(self, p: _Pending) -> None:
        if p.request is not None:
            stamp = self._stamp(p.chunks[0], p.asked_ns, p.asked_ns, p.instruction)
            self._planner.offer(p.chunks, p.request, stamp, self._now_ns)
            return
        if self._sight is not None and p.sight.capture_s <= self._sight.capture_s:
            return  # admitted by capture time, not by arrival
        self._sight = p.sight
        if self._case.stamps == "arrival":
            self._sight = p.sight.taken_at(self._t_s(self._now_ns))

    def _infer(self, request: InferenceRequest) -> None:
        self._recorder.inferences += 1
        now_ns = self._now_ns
        if not self._case.split:
            ready_ns = self._ready_ns()
            sight = self._look()
            chunks = () if ready_ns is None else self._policy.infer(request, sight)
            self._pending.append(
                _Pending(request, chunks, sight, now_ns, ready_ns, self._context.instruction_id)
            )
            self._deliver()  # without delay it is there at once
            return
        if self._sight is None:
            self._planner.give_up(request)
            return
        chunks = self._policy.infer(request, self._sight_of_fast_half())
        capture_ns = self._start_ns + round(self._sight.capture_s * NS_PER_S)
        stamp = self._stamp(chunks[0], capture_ns, now_ns, self._context.instruction_id)
        self._planner.offer(chunks, request, stamp, now_ns)

    def _sight_of_fast_half(self) -> Sight:
        assert self._sight is not None
        now_s = self._t_s(self._now_ns)
        if self._case.small_image:
            return self._policy.expert.look(now_s, self._sight.instruction, _SMALL_IMAGE_BLUR)
        return self._sight.taken_at(now_s) if self._case.stamps == "fresh" else self._sight

    def _slow_step(self) -> None:
        period_ns = round(self._case.slow_period_s * NS_PER_S)
        if period_ns > 0:
            if self._now_ns < self._next_slow_ns:
                return
            self._next_slow_ns = self._now_ns + period_ns
        elif any(p.request is None for p in self._pending):
            return
        self._recorder.slow_inferences += 1
        instruction = self._context.instruction_id
        self._pending.append(
            _Pending(None, (), self._look(), self._now_ns, self._ready_ns(), instruction)
        )
        self._deliver()

    def _stamp(
        self, chunk: ActionChunk, capture_ns: int, asked_ns: int, instruction: int
    ) -> LatencyStamp:
        self._chunks += 1
        max_age_ns = round(self._case.max_age_s * NS_PER_S)
        soft_ns = capture_ns + max_age_ns // 2 if max_age_ns > 0 else 0
        hard_ns = capture_ns + max_age_ns if max_age_ns > 0 else _NEVER_NS
        return LatencyStamp(
            kind=StampKind.CHUNK,
            seq=self._chunks,
            episode_id=_EPISODE,
            epoch=_EPOCH,
            instruction_id=instruction,
            capture_oldest_ns=capture_ns,
            capture_newest_ns=capture_ns,
            request_ns=asked_ns,
            publish_ns=self._now_ns,
            target0_ns=chunk.target0_ns,
            dt_ns=chunk.dt_ns,
            horizon=chunk.horizon,
            soft_expire_ns=soft_ns,
            hard_expire_ns=hard_ns,
        )

    def _ready_ns(self) -> int | None:
        """Return when an inference begun now is done: a stalled policy does not go on."""
        delay_ns = self._delays.draw()
        if delay_ns is None:
            return None
        ready_ns = self._now_ns + delay_ns
        begin_ns, end_ns = self._stall_ns
        return (
            ready_ns + end_ns - max(begin_ns, self._now_ns)
            if (begin_ns < ready_ns and self._now_ns < end_ns)
            else ready_ns
        )

    def _look(self) -> Sight:
        sight = self._policy.expert.look(self._t_s(self._now_ns), self._instruction)
        return sight.taken_at(sight.capture_s + self._case.skew_s) if self._case.skew_s else sight

    def _t_s(self, at_ns: int) -> float:
        return (at_ns - self._start_ns) * 1e-9
