# SPDX-License-Identifier: Apache-2.0
"""Virtual time: the same policies, buffer, executor and C++ core against MuJoCo, in lock step.

No process, no clock, no ROS: simulation steps are the time. The same seed gives the same episode on
one machine, whatever else runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.errors import ConfigError
from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy
from vla_ros.policies.classical_fast import ClassicalFastPolicy
from vla_ros.policies.classical_slow import ClassicalSlowPolicy
from vla_ros.policies.instruction import parse_instruction
from vla_ros.sim.events import Carrier, EpisodeEvent, EventConfig
from vla_ros.sim.execution import Execution, ExecutionConfig
from vla_ros.sim.judge import Judge
from vla_ros.sim.lockstep_trace import EpisodeResult, Trace
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.sim.scene import SceneConfig
from vla_ros.sim.split_execution import SplitExecution
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.sim.virtual_cell import VirtualCell
from vla_ros.sim.whole_execution import JoinedHalves, WholeExecution
from vla_ros.types import CameraFrame, Observation

__all__ = ["EpisodeResult", "LockstepConfig", "LockstepRunner"]

FrameFilter = Callable[[dict[str, CameraFrame]], dict[str, CameraFrame]]

_CARRYING_STEP_NS = 5 * NS_PER_MS


@dataclass(frozen=True, kw_only=True)
class LockstepConfig:
    """Rates and delays of the virtual run.

    Attributes:
        delay: other delays of inferences than always ``slow_latency_ms``, which must then be 0.
        event: something new in the middle of the motion.
    """

    camera_hz: float = setting(10.0, "camera rate", unit="Hz", ge=1.0, le=60.0)
    chunk_hz: float = setting(30.0, "rate of the fast policy", unit="Hz", ge=1.0, le=200.0)
    slow_latency_ms: float = setting(
        0.0, "what a slow inference takes until its result is there", unit="ms", ge=0.0, le=20000.0
    )
    max_duration_s: float = setting(40.0, "give up after", unit="s", ge=1.0, le=600.0)
    delay: DelayConfig | None = None
    event: EventConfig = field(default_factory=EventConfig)
    control: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.delay is not None and self.slow_latency_ms:
            raise ConfigError(
                f"slow_latency_ms must be 0 where delays are drawn, got {self.slow_latency_ms}"
            )

    @property
    def delays(self) -> DelayConfig:
        """How long inferences take."""
        return self.delay or DelayConfig(mean_ms=self.slow_latency_ms)


class LockstepRunner:
    """Runs episodes one after the other; build once, run many.

    Args:
        config: rates and delays.
        slow_policy, fast_policy: the two halves; None takes the classical ones.
        filter_frames: changes what both halves see (a blank image, a frozen one).
        cameras: names of the cameras that are drawn.
        strategy: how chunks are joined, by its name in the registry.
        whole: run both halves as one policy whose rows arrive after the latency.
        policy: a policy in one piece, in place of the halves.
        execution: how rows are executed, in place of ``strategy``; its delays and period are those
            of ``config``.
    """

    def __init__(
        self,
        config: LockstepConfig | None = None,
        slow_policy: SlowPolicy | None = None,
        filter_frames: FrameFilter | None = None,
        fast_policy: FastPolicy | None = None,
        cameras: Sequence[str] = ("scene_camera",),
        strategy: str = "timed",
        whole: bool = False,
        policy: ChunkPolicy | None = None,
        execution: ExecutionConfig | None = None,
    ) -> None:
        self._config = config or LockstepConfig()
        self._filter_frames = filter_frames
        # Who executes naively judges nothing either.
        is_naive = whole and strategy.startswith("naive")
        how = replace(
            execution or ExecutionConfig(strategy=strategy, admits=not is_naive),
            delay=self._config.delays,
            period_s=1.0 / self._config.camera_hz,
        )
        slow, fast = slow_policy or ClassicalSlowPolicy(), fast_policy or ClassicalFastPolicy()
        self._execution: Execution
        if policy is not None:
            self._execution = WholeExecution(policy, how)
        elif whole:
            self._execution = WholeExecution(JoinedHalves(slow, fast), how)
        else:
            self._execution = SplitExecution(slow, fast, how)
        self._cell = VirtualCell(self._config.control, cameras, "lockstep")
        self._episode_id = 0

    def close(self) -> None:
        """Free the OpenGL context and the shared memory."""
        self._cell.close()

    def run(self, seed: int, instruction: str, goal: str | None = None) -> EpisodeResult:
        """Run one episode with the layout of ``seed``, judged by ``goal`` or the instruction.

        After a swap of the instruction the new one is judged.
        """
        self._begin(seed, instruction)
        cell, config = self._cell, self._config
        self._judge = Judge(cell.info, parse_instruction(goal or instruction))
        start_ns = cell.now_ns
        self._trace = trace = Trace(start_ns)
        end_ns = start_ns + int(config.max_duration_s * NS_PER_S)
        camera_ns, chunk_ns = int(NS_PER_S / config.camera_hz), int(NS_PER_S / config.chunk_hz)
        next_camera_ns = next_chunk_ns = start_ns
        frames: Mapping[str, CameraFrame] = {}
        verdict = None
        while cell.now_ns < end_ns:
            now_ns = cell.now_ns
            if self._event.happen(now_ns):
                self._change()
            self._carry()
            if now_ns >= next_camera_ns:
                next_camera_ns += camera_ns
                frames = self._expose()
                verdict = self._judge.update(cell.qpos, cell.qvel, now_ns)
                trace.add_truth(cell.info, cell.qpos, self._event.goal.cube_colour)
                if verdict.success:
                    break
            observation = self._observe(frames)
            self._execution.look(now_ns, observation)
            if now_ns >= next_chunk_ns:
                next_chunk_ns += chunk_ns
                self._fast_step(observation)
            cell.advance(self._next_ns(min(next_camera_ns, next_chunk_ns, end_ns)))
            trace.add_ticks(cell.ticks())
        return trace.result(
            seed=seed,
            instruction=self._instruction,
            success=verdict is not None and verdict.success,
            now_ns=cell.now_ns,
            reason="time is up" if verdict is None else verdict.reason,
            counts=self._execution.counts,
            counters=cell.counters(),
        )

    def _begin(self, seed: int, instruction: str) -> None:
        goal, layout = parse_instruction(instruction), sample_layout(seed)
        self._instruction = instruction
        self._event = EpisodeEvent(self._config.event, seed, goal, layout)
        self._carrier: Carrier | None = None
        self._cell.reset(apply_layout(self._cell.info, layout))
        self._episode_id += 1
        self._execution.begin(self._episode_id, seed)

    def _next_ns(self, until_ns: int) -> int:
        """Return when there is something to do again, at the latest at ``until_ns``."""
        instants = [until_ns, self._execution.due_ns, self._event.due_ns]
        if self._carrier is not None:
            instants.append(self._cell.now_ns + _CARRYING_STEP_NS)
        return min(instant for instant in instants if instant is not None)

    def _expose(self) -> Mapping[str, CameraFrame]:
        return self._cell.expose(self._filter_frames)

    def _observe(self, frames: Mapping[str, CameraFrame]) -> Observation:
        return Observation(
            state=self._cell.state(),
            instruction=self._instruction,
            instruction_id=self._execution.instruction_id,
            episode_id=self._episode_id,
            frames=frames,
        )

    def _change(self) -> None:
        """Let be new what the event says: words, and what is judged; or the place of a cube."""
        cell, event = self._cell, self._event
        self._trace.add_event(cell.now_ns)
        if event.place is not None:
            start = cell.info.cube_position(cell.qpos, event.goal.cube_colour)
            self._carrier = Carrier(
                start=start,
                end=np.array([*event.place, start[2]]),
                mass_kg=SceneConfig().cube_mass_kg,
                duration_s=self._config.event.jump_s,
            )
            return
        self._instruction = event.goal.text
        self._judge = Judge(cell.info, event.goal)
        rest = self._execution.instruct(cell.now_ns, cell.state())
        if rest is not None:
            cell.commit(rest)

    def _carry(self) -> None:
        """Push the cube for the next few ticks, if it is being carried."""
        carrier, event, cell = self._carrier, self._event, self._cell
        if carrier is None or event.at_ns is None:
            return
        body = f"cube_{event.goal.cube_colour}"
        if not event.is_carrying(cell.now_ns):
            cell.push(body, np.zeros(6))
            self._carrier = None
            return
        position = cell.info.cube_position(cell.qpos, event.goal.cube_colour)
        velocity = cell.info.cube_velocity(cell.qvel, event.goal.cube_colour)[:3]
        t_s = (cell.now_ns - event.at_ns) / NS_PER_S
        cell.push(body, carrier.force(t_s, position, velocity))

    def _fast_step(self, observation: Observation) -> None:
        self._cell.renew_lease(self._episode_id, self._execution.instruction_id)
        now_ns = self._cell.now_ns
        result = self._execution.step(now_ns, observation)
        if result.segment is None:
            return
        self._trace.add_step(result)
        self._trace.add_commit(now_ns, self._knew_ns())
        self._cell.commit(result.segment)
        self._event.plan(now_ns)

    def _knew_ns(self) -> int:
        """Return when images were taken, or words read, that the newest rows are made of."""
        cause = self._execution.cause
        if cause is None:
            return 0
        return cause.infer_start_ns if self._event.place is None else cause.capture_oldest_ns
