# SPDX-License-Identifier: Apache-2.0
"""Virtual time: the same policies, buffer, executor and C++ core against MuJoCo, in lock step.

No process, no clock, no ROS: simulation steps are the time. The same seed gives the same episode on
one machine, whatever else runs there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.policies.base import FastPolicy, SlowPolicy
from vla_ros.policies.classical_fast import ClassicalFastPolicy
from vla_ros.policies.classical_slow import ClassicalSlowPolicy
from vla_ros.policies.instruction import parse_instruction
from vla_ros.sim.execution import (
    Execution,
    SplitExecution,
    TwoHalves,
    Whole,
    WholeExecution,
)
from vla_ros.sim.judge import Judge
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.sim.virtual_cell import VirtualCell
from vla_ros.types import CameraFrame, Observation

FrameFilter = Callable[[dict[str, CameraFrame]], dict[str, CameraFrame]]


@dataclass(frozen=True, kw_only=True)
class LockstepConfig:
    """Rates and delays of the virtual run."""

    camera_hz: float = setting(10.0, "camera rate", unit="Hz", ge=1.0, le=60.0)
    chunk_hz: float = setting(30.0, "rate of the fast policy", unit="Hz", ge=1.0, le=200.0)
    slow_latency_ms: float = setting(
        0.0, "time from capture to the latent's publication", unit="ms", ge=0.0, le=20000.0
    )
    max_duration_s: float = setting(40.0, "give up after", unit="s", ge=1.0, le=600.0)
    control: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What came of one episode in virtual time."""

    seed: int
    instruction: str
    success: bool
    duration_s: float
    reason: str
    latent_age_ms_p50: float
    latent_age_ms_max: float
    age_error_ms_max: float
    seam_m_p95: float
    rows_after_expiry: int
    expired_brakes: int


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

    Raises:
        ConfigError: if the policy lacks what the strategy needs.
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
        policy: Whole | None = None,
    ) -> None:
        self._config = config or LockstepConfig()
        self._filter_frames = filter_frames
        self._cell = VirtualCell(self._config.control, cameras, "lockstep")
        slow, fast = slow_policy or ClassicalSlowPolicy(), fast_policy or ClassicalFastPolicy()
        latency_ns = int(self._config.slow_latency_ms * NS_PER_MS)
        self._execution: Execution
        if whole or policy is not None:
            answering = policy or TwoHalves(slow, fast)
            self._execution = WholeExecution(answering, latency_ns, strategy)
        else:
            period_ns = int(NS_PER_S / self._config.camera_hz)
            self._execution = SplitExecution(slow, fast, latency_ns, period_ns, strategy)
        self._episode_id = 0

    def close(self) -> None:
        """Free the OpenGL context and the shared memory."""
        self._cell.close()

    def run(self, seed: int, instruction: str, goal: str | None = None) -> EpisodeResult:
        """Run one episode with the layout of ``seed``, judged by ``goal`` or the instruction."""
        self._begin(seed, instruction)
        cell = self._cell
        judge = Judge(cell.info, parse_instruction(goal or instruction))
        trace = _Trace()
        start_ns = cell.now_ns
        end_ns = start_ns + int(self._config.max_duration_s * NS_PER_S)
        camera_ns = int(NS_PER_S / self._config.camera_hz)
        chunk_ns = int(NS_PER_S / self._config.chunk_hz)
        next_camera_ns = next_chunk_ns = start_ns
        frames: dict[str, CameraFrame] = {}
        verdict = None
        while cell.now_ns < end_ns:
            now_ns = cell.now_ns
            if now_ns >= next_camera_ns:
                next_camera_ns += camera_ns
                frames = self._render()
                verdict = judge.update(cell.qpos, cell.qvel, now_ns)
                if verdict.success:
                    break
            observation = self._observe(instruction, frames)
            self._execution.look(now_ns, observation)
            if now_ns >= next_chunk_ns:
                next_chunk_ns += chunk_ns
                self._fast_step(observation, trace)
            due_ns = self._execution.due_ns
            until_ns = min(next_camera_ns, next_chunk_ns, end_ns)
            cell.advance(until_ns if due_ns is None else min(until_ns, due_ns))
        return trace.result(
            seed=seed,
            instruction=instruction,
            success=verdict is not None and verdict.success,
            duration_s=(cell.now_ns - start_ns) / NS_PER_S,
            reason="time is up" if verdict is None else verdict.reason,
            counters=cell.counters(),
        )

    def _begin(self, seed: int, instruction: str) -> None:
        parse_instruction(instruction)
        self._cell.reset(apply_layout(self._cell.info, sample_layout(seed)))
        self._episode_id += 1
        self._execution.begin(self._episode_id)

    def _render(self) -> dict[str, CameraFrame]:
        frames = self._cell.render()
        return self._filter_frames(frames) if self._filter_frames else frames

    def _observe(self, instruction: str, frames: dict[str, CameraFrame]) -> Observation:
        return Observation(
            state=self._cell.state(),
            instruction=instruction,
            instruction_id=self._episode_id,
            episode_id=self._episode_id,
            frames=frames,
        )

    def _fast_step(self, observation: Observation, trace: _Trace) -> None:
        self._cell.renew_lease(self._episode_id)
        result = self._execution.step(self._cell.now_ns, observation)
        if result.segment is None:
            return
        trace.add(result.latent_age_ms, result.latent_age_true_ms, result.seam_m)
        self._cell.commit(result.segment)


class _Trace:
    """Numbers collected over one episode."""

    def __init__(self) -> None:
        self._ages: list[float] = []
        self._errors: list[float] = []
        self._seams: list[float] = []

    def add(self, age_ms: float, true_age_ms: float, seam_m: float) -> None:
        self._ages.append(age_ms)
        self._errors.append(abs(age_ms - true_age_ms))
        if not math.isnan(seam_m):
            self._seams.append(seam_m)

    def result(
        self,
        *,
        seed: int,
        instruction: str,
        success: bool,
        duration_s: float,
        reason: str,
        counters: dict[str, int],
    ) -> EpisodeResult:
        ages, errors = np.array(self._ages or [np.nan]), np.array(self._errors or [np.nan])
        return EpisodeResult(
            seed=seed,
            instruction=instruction,
            success=success,
            duration_s=duration_s,
            reason=reason,
            latent_age_ms_p50=float(np.median(ages)),
            latent_age_ms_max=float(ages.max()),
            age_error_ms_max=float(errors.max()),
            seam_m_p95=float(np.percentile(self._seams or [0.0], 95)),
            rows_after_expiry=counters["rows_after_expiry"],
            expired_brakes=counters["expired_brakes"],
        )
