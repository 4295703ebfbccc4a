# SPDX-License-Identifier: Apache-2.0
"""Virtual time: the same policies, buffer, executor and C++ core against MuJoCo, in lock step.

No process, no clock, no ROS: simulation steps are the time. The same seed gives the same episode on
one machine, whatever else runs there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import vla_ros_core as core
from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.latency.stamping import (
    InferenceTimes,
    soft_validity_ns,
    stamp_latent,
    validity_ns,
)
from vla_ros.policies.base import SlowPolicy
from vla_ros.policies.classical_fast import ClassicalFastPolicy
from vla_ros.policies.classical_slow import ClassicalSlowPolicy
from vla_ros.policies.instruction import parse_instruction
from vla_ros.sim.judge import Judge
from vla_ros.sim.plant import build_plant, fr3_arm
from vla_ros.sim.rendering import SceneRenderer
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import CameraFrame, Latent, Observation

SOURCE = "policy"
_LEASE_NS = 200 * NS_PER_MS


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


@dataclass
class _Pending:
    """A latent that is still being computed."""

    latent: Latent
    ready_ns: int


class LockstepRunner:
    """Runs episodes one after the other; build once, run many.

    ``filter_frames`` lets a test change what the policy sees (a blank image, a frozen one).
    """

    def __init__(
        self,
        config: LockstepConfig | None = None,
        slow_policy: SlowPolicy | None = None,
        filter_frames: Callable[[dict[str, CameraFrame]], dict[str, CameraFrame]] | None = None,
    ) -> None:
        self._config = config or LockstepConfig()
        self._filter_frames = filter_frames
        self._folder = tempfile.TemporaryDirectory(prefix="vla_ros_lockstep_")
        path = Path(self._folder.name) / "scene.mjb"
        model = build_scene()
        self._info = describe_scene(model)
        save_model(model, path)
        self._renderer = SceneRenderer(model, ("scene_camera",), tick_code=True)
        self._prefix = f"vla_ros.lockstep{os.getpid()}"
        self._plant = build_plant(path, snapshot_ring="")
        self._host = build_host(self._config.control, fr3_arm(), self._plant, self._prefix)
        self._segments = core.SegmentWriter(self._prefix, SOURCE)
        self._lease = core.LeaseWriter(self._prefix)
        self._slow = slow_policy or ClassicalSlowPolicy()
        self._buffer = LatentBuffer()
        self._executor = ChunkExecutor(ClassicalFastPolicy(), self._buffer)
        self._now_ns = NS_PER_S
        self._episode_id = 0
        self._latent_seq = 0

    def close(self) -> None:
        """Free the OpenGL context and the shared memory."""
        self._renderer.close()
        for stream in ("state", "lease", "stop", "segment.policy", "segment.teleop"):
            core.ShmRing.unlink(f"{self._prefix}.{stream}")
        self._folder.cleanup()

    def run(self, seed: int, instruction: str, goal: str | None = None) -> EpisodeResult:
        """Run one episode with the layout of ``seed``, judged by ``goal`` or the instruction."""
        self._begin(seed, instruction)
        judge = Judge(self._info, parse_instruction(goal or instruction))
        trace = _Trace()
        start_ns = self._now_ns
        end_ns = start_ns + int(self._config.max_duration_s * NS_PER_S)
        camera_ns = int(NS_PER_S / self._config.camera_hz)
        chunk_ns = int(NS_PER_S / self._config.chunk_hz)
        next_camera_ns = next_chunk_ns = start_ns
        frames: dict[str, CameraFrame] = {}
        used_capture_ns = 0
        pending: _Pending | None = None
        verdict = None
        while self._now_ns < end_ns:
            now_ns = self._now_ns
            if now_ns >= next_camera_ns:
                next_camera_ns += camera_ns
                frames = self._render()
                qpos, qvel = np.array(self._plant.qpos()), np.array(self._plant.qvel())
                verdict = judge.update(qpos, qvel, now_ns)
                if verdict.success:
                    break
            if pending is not None and now_ns >= pending.ready_ns:
                self._buffer.offer(pending.latent, now_ns)
                pending = None
            newest_ns = min((f.capture_ns for f in frames.values()), default=0)
            if pending is None and newest_ns > used_capture_ns:
                used_capture_ns = newest_ns
                pending = self._infer(frames, instruction)
                if pending.ready_ns <= now_ns:
                    self._buffer.offer(pending.latent, now_ns)
                    pending = None
            if now_ns >= next_chunk_ns:
                next_chunk_ns += chunk_ns
                self._fast_step(instruction, trace)
            self._advance(min(next_camera_ns, next_chunk_ns, end_ns), pending)
        return trace.result(
            seed=seed,
            instruction=instruction,
            success=verdict is not None and verdict.success,
            duration_s=(self._now_ns - start_ns) / NS_PER_S,
            reason="time is up" if verdict is None else verdict.reason,
            counters=self._host.counters(),
        )

    def _begin(self, seed: int, instruction: str) -> None:
        parse_instruction(instruction)
        self._plant.request_reset(list(apply_layout(self._info, sample_layout(seed))))
        self._now_ns = self._host.run_ticks(self._now_ns, 50)
        self._episode_id += 1
        self._buffer.set_context(
            BufferContext(episode_id=self._episode_id, instruction_id=self._episode_id)
        )
        self._slow.reset()
        self._executor.reset()

    def _render(self) -> dict[str, CameraFrame]:
        frames = self._renderer.render(np.array(self._plant.qpos()), None, self._now_ns)
        return self._filter_frames(frames) if self._filter_frames else frames

    def _infer(self, frames: dict[str, CameraFrame], instruction: str) -> _Pending:
        latency_ns = int(self._config.slow_latency_ms * NS_PER_MS)
        observation = Observation(
            state=to_robot_state(self._host.state()),
            instruction=instruction,
            instruction_id=self._episode_id,
            episode_id=self._episode_id,
            frames=frames,
        )
        tensors = self._slow.encode(observation)
        ready_ns = observation.capture_oldest_ns + latency_ns
        self._latent_seq += 1
        period_ns = max(latency_ns, int(NS_PER_S / self._config.camera_hz))
        times = InferenceTimes(
            request_ns=self._now_ns, start_ns=self._now_ns, end_ns=ready_ns, publish_ns=ready_ns
        )
        valid_ns = validity_ns(int(self._slow.max_age_s * NS_PER_S), latency_ns, period_ns)
        stamp = stamp_latent(
            observation,
            tensors,
            times,
            seq=self._latent_seq,
            validity_ns=valid_ns,
            soft_validity_ns=soft_validity_ns(valid_ns, latency_ns, period_ns),
        )
        return _Pending(Latent(tensors=tensors, stamp=stamp), ready_ns)

    def _fast_step(self, instruction: str, trace: _Trace) -> None:
        now_ns = self._now_ns
        self._lease.write(SOURCE, self._episode_id, now_ns + _LEASE_NS)
        state = to_robot_state(self._host.state())
        result = self._executor.step(now_ns, state, instruction, self._episode_id)
        if result.segment is None:
            return
        trace.add(result.latent_age_ms, result.latent_age_true_ms, result.seam_m)
        write_segment(self._segments, result.segment)

    def _advance(self, until_ns: int, pending: _Pending | None) -> None:
        if pending is not None:
            until_ns = min(until_ns, pending.ready_ns)
        period_ns = int(NS_PER_S / self._config.control.rate_hz)
        ticks = max(1, -(-(until_ns - self._now_ns) // period_ns))
        self._now_ns = self._host.run_ticks(self._now_ns, ticks)


class _Trace:
    """Numbers collected over one episode."""

    def __init__(self) -> None:
        self._ages: list[float] = []
        self._errors: list[float] = []
        self._seams: list[float] = []

    def add(self, age_ms: float, true_age_ms: float, seam_m: float) -> None:
        self._ages.append(age_ms)
        self._errors.append(abs(age_ms - true_age_ms))
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
