# SPDX-License-Identifier: Apache-2.0
"""One episode in virtual time: a strategy in front of the C++ control host and law.

The executor's step runs every ``dt``, as a 30 Hz loop would; the control host runs every tick
between. A policy takes as long as the trace says, one call at a time. Nothing is carried over from
one episode to the next, so that the result depends on case and seed alone.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vla_ros_core as core
from vla_ros.chunking.segment import build_segment
from vla_ros.chunking.strategies.base import InferenceRequest, Situation, Strategy
from vla_ros.chunking.strategies.registry import default_settings, make_strategy
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import load_robot
from vla_ros.latency.estimator import LatencyEstimator
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.plant import build_arm_plant
from vla_ros.sim.prepare import prepare_arm
from vla_ros.sim.rig.delays import DelayConfig, DelayTrace
from vla_ros.sim.rig.expert import ExpertConfig, Sight
from vla_ros.sim.rig.metrics import EpisodeResult, Recorder
from vla_ros.sim.rig.scenario import Judge, Scenario, ScenarioConfig
from vla_ros.sim.rig.surrogate import PolicyConfig, SurrogateHead, SurrogatePolicy
from vla_ros.types import ActionChunk, Latent, Observation, RobotState

SOURCE = "policy"
_LEASE_NS = NS_PER_S
_START_NS = 10 * NS_PER_S  # any instant: all episodes begin at the same one
_SETTLE_TICKS = 50
_numbers = itertools.count()  # several runners of a process have rings of their own
_SMALL_IMAGE_BLUR = 5.0  # errors of a small image, as a multiple of those of the full one


@dataclass(frozen=True, kw_only=True)
class RigCase:
    """One cell of an experiment: everything but the seed.

    Attributes:
        settings: of the strategy; None: its defaults.
        stamps: what the fast half is told: "full", "arrival" (age counted from the arrival of a
            latent), "fresh" (every latent taken for new).
    """

    strategy: str = setting("naive", "execution strategy")
    split: bool = setting(False, "slow half on the delayed side, fast half at every step")
    small_image: bool = setting(False, "the fast half also sees a small image of the present")
    stamps: str = setting(
        "full", "what is known of a latent's age", choices=("full", "arrival", "fresh")
    )
    old_instruction_counts: bool = setting(
        True, "results and rows of an earlier instruction are executed"
    )
    timeout_s: float = setting(1.0, "a result is given up after", unit="s", ge=0.05, le=60.0)
    max_age_s: float = setting(
        0.0,
        "rows expire at this age of their cause, and slow down from half of it; 0: never",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    slow_period_s: float = setting(
        0.0,
        "time between frames that the slow half begins with; 0: one when the last is done",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    warm_start: bool = setting(False, "a first latent is there when the episode begins")
    stall_at_s: float = setting(0.0, "the policy stands still from here on", unit="s", ge=0, le=60)
    stall_s: float = setting(0.0, "for so long; 0: never", unit="s", ge=0.0, le=60.0)
    skew_s: float = setting(0.0, "error of capture times", unit="s", ge=-1.0, le=1.0)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    delay: DelayConfig = field(default_factory=DelayConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    settings: Any = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class _Pending:
    """An inference that is not done. ``ready_ns`` None: its result will never arrive."""

    request: InferenceRequest | None  # None: a latent
    chunks: tuple[ActionChunk, ...]
    sight: Sight
    asked_ns: int
    ready_ns: int | None


class RigRunner:
    """Runs episodes of an arm; build once per process, run many.

    Thread-safety: one thread.
    """

    def __init__(self, robot: str = "fr3", rate_hz: float = 1000.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vla_ros_rig_")
        self._robot = load_robot(robot)
        self._arm = arm_of(self._robot)
        self._rate_hz = rate_hz
        self._model = prepare_arm(Path(self._folder.name), self._robot, rate_hz).model
        self._prefix = f"vla_ros.rig{os.getpid()}.{next(_numbers)}"
        self._segments = core.SegmentWriter(self._prefix, SOURCE)
        self._lease = core.LeaseWriter(self._prefix)

    def close(self) -> None:
        """Free files and shared memory."""
        self._segments.close()
        for stream in ("state", "lease", "stop", "segment.policy", "segment.teleop"):
            core.ShmRing.unlink(f"{self._prefix}.{stream}")
        self._folder.cleanup()

    def run(self, case: RigCase, seed: int) -> EpisodeResult:
        """Run one episode."""
        plant = build_arm_plant(self._model, self._robot.joint_names, "")
        host = build_host(case.control, self._arm, plant, self._prefix)
        plant.request_reset(list(self._robot.home_q))
        start_ns = host.run_ticks(_START_NS, _SETTLE_TICKS)
        episode = _Episode(case, seed, start_ns, host, self._segments, self._lease)
        return episode.run(core.StateReader(self._prefix))


class _Episode:
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
        self._strategy: Strategy = make_strategy(
            case.strategy, self._policy.capabilities, settings, head=head
        )
        self._delays = DelayTrace(case.delay, seed)
        self._estimator = LatencyEstimator(warmup=0)
        self._estimator.add(round(case.delay.mean_ms * 1e6))  # known from a warm-up
        self._pending: list[_Pending] = []
        self._sight: Sight | None = None  # newest latent of a split policy
        self._instruction = 1
        self._next_slow_ns = 0
        self._plan: ActionChunk | None = None
        self._capture_ns = 0
        self._epoch = 1
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
        self._check_instruction()
        state = to_robot_state(self._host.state())
        self._deliver()
        if self._case.split:
            self._slow_step(state)
        situation = self._situation(state)
        request = self._strategy.request(situation)
        if request is not None:
            self._infer(request)
        plan = self._strategy.plan(self._situation(state))
        self._recorder.add_plan(plan, now_ns)
        self._lease.write(SOURCE, self._epoch, now_ns + _LEASE_NS)
        if plan is not None and plan is not self._plan:
            write_segment(self._segments, self._segment(plan, state))
        self._plan = plan

    def _check_instruction(self) -> None:
        instruction = self._scenario.instruction_at(self._t_s(self._now_ns))
        if instruction == self._instruction:
            return
        self._instruction = instruction
        if self._case.old_instruction_counts:
            return
        self._epoch += 1
        self._strategy.reset()
        self._pending = []
        self._sight = None

    def _situation(self, state: RobotState) -> Situation:
        waiting = [p for p in self._pending if p.request is not None]
        return Situation(
            now_ns=self._now_ns,
            observation=self._observation(state),
            delay_ns=0 if self._case.split else self._estimator.quantile_ns(0.95),
            in_flight=len(waiting),
        )

    def _observation(self, state: RobotState) -> Observation:
        return Observation(
            state=state,
            instruction=str(self._instruction),
            instruction_id=self._instruction,
            episode_id=1,
        )

    def _deliver(self) -> None:
        """Hand over what is ready, in the order in which it became so."""
        now_ns = self._now_ns
        timeout_ns = round(self._case.timeout_s * NS_PER_S)
        done = [p for p in self._pending if p.ready_ns is not None and p.ready_ns <= now_ns]
        lost = [p for p in self._pending if p.ready_ns is None and now_ns - p.asked_ns > timeout_ns]
        self._pending = [p for p in self._pending if p not in done and p not in lost]
        for p in sorted(done, key=lambda p: p.ready_ns or 0):
            self._estimator.add((p.ready_ns or 0) - p.asked_ns)
            self._take(p)

    def _take(self, p: _Pending) -> None:
        if p.request is None:
            if self._sight is not None and p.sight.capture_s <= self._sight.capture_s:
                return  # admitted by capture time, not by arrival
            self._sight = p.sight
            if self._case.stamps == "arrival":
                self._sight = p.sight.taken_at(self._t_s(self._now_ns))
            return
        self._strategy.offer(p.chunks, p.request, self._now_ns)
        self._capture_ns = max(self._capture_ns, p.asked_ns)

    def _infer(self, request: InferenceRequest) -> None:
        self._recorder.inferences += 1
        if self._case.split:
            if self._sight is None:
                return
            sight = self._sight
            if self._case.small_image:
                now_s = self._t_s(self._now_ns)
                sight = self._policy.expert.look(now_s, sight.instruction, _SMALL_IMAGE_BLUR)
            elif self._case.stamps == "fresh":
                sight = sight.taken_at(self._t_s(self._now_ns))
            chunks = self._policy.infer(request, sight)
            self._strategy.offer(chunks, request, self._now_ns)
            self._capture_ns = self._start_ns + round(self._sight.capture_s * NS_PER_S)
            return
        sight = self._look()
        ready_ns = self._ready_ns()
        chunks = () if ready_ns is None else self._policy.infer(request, sight)
        pending = _Pending(request, chunks, sight, self._now_ns, ready_ns)
        self._pending.append(pending)
        self._deliver()  # without delay it is there at once

    def _slow_step(self, state: RobotState) -> None:
        period_ns = round(self._case.slow_period_s * NS_PER_S)
        if period_ns > 0:
            if self._now_ns < self._next_slow_ns:
                return
            self._next_slow_ns = self._now_ns + period_ns
        elif any(p.request is None for p in self._pending):
            return
        self._recorder.slow_inferences += 1
        ready_ns = self._ready_ns()
        self._pending.append(_Pending(None, (), self._look(), self._now_ns, ready_ns))
        self._deliver()

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

    def _segment(self, plan: ActionChunk, state: RobotState) -> Any:
        valid_until_ns = plan.target0_ns + plan.horizon * plan.dt_ns
        max_age_ns = round(self._case.max_age_s * NS_PER_S)
        if max_age_ns > 0:
            valid_until_ns = min(valid_until_ns, self._capture_ns + max_age_ns)
        cause = LatencyStamp(
            kind=StampKind.LATENT,
            episode_id=1,
            instruction_id=self._instruction,
            capture_oldest_ns=self._capture_ns,
            capture_newest_ns=self._capture_ns,
            soft_expire_ns=self._capture_ns + max_age_ns // 2 if max_age_ns > 0 else 0,
            hard_expire_ns=valid_until_ns,
        )
        return build_segment(
            plan,
            Latent(tensors={}, stamp=cause),
            state,
            seq=self._recorder.next_segment(),
            epoch=self._epoch,
            now_ns=self._now_ns,
        )

    def _t_s(self, at_ns: int) -> float:
        return (at_ns - self._start_ns) * 1e-9
