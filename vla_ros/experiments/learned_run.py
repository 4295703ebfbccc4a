# SPDX-License-Identifier: Apache-2.0
"""Runs an exported policy through one episode of a case, and says what it did and what it cost."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.experiments.learned_case import LearnedCase
from vla_ros.experiments.metering import Meter, MeteredChunk, MeteredFast, MeteredSlow
from vla_ros.learning.split import check_evaluation_seed, evaluation_goal
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.contract import model_hash
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxSlowPolicy
from vla_ros.sim.execution import ExecutionConfig

if TYPE_CHECKING:
    from vla_ros.sim.lockstep import EpisodeResult, LockstepRunner

CAMERAS = ("scene_camera", "wrist_camera")


@dataclass(frozen=True)
class Opened:
    """The parts of an export: two halves, or one piece."""

    model: str
    slow: OnnxSlowPolicy | None = None
    fast: OnnxFastPolicy | None = None
    chunk: OnnxChunkPolicy | None = None


@functools.lru_cache(maxsize=8)
def open_parts(path: Path, tells_age: bool | None, cpu_ns: Callable[[], int]) -> Opened:
    """Open an export on one thread of the CPU; once per process.

    Raises:
        ConfigError: if it is refused.
    """
    folder = open_policy(path)
    runtime = PolicyRuntime(session=SessionSettings(provider="cpu"), now_ns=cpu_ns)
    model = f"{model_hash(folder):016x}"
    if folder.manifest.kind is Kind.CHUNK:
        return Opened(model, chunk=OnnxChunkPolicy(folder, runtime))
    fast = OnnxFastPolicy(folder, runtime, tells_age=tells_age)
    return Opened(model, slow=OnnxSlowPolicy(folder, runtime), fast=fast)


def run_case(
    case: LearnedCase,
    models: Path,
    seed: int,
    cpu_ns: Callable[[], int] = time.thread_time_ns,
) -> dict[str, Any]:
    """Run one episode and return the columns of its row.

    All but the CPU times depend on case, weights and seed alone.

    Raises:
        ConfigError: if the policy cannot be opened, or the seed belongs to training.
    """
    check_evaluation_seed(seed)
    parts = open_parts(models / case.policy, case.tells_age, cpu_ns)
    meters = {name: Meter(cpu_ns) for name in ("slow", "fast", "whole")}
    # A new one each time: nothing of the episode before is left.
    with closing(_runner_of(case, parts, meters)) as runner:
        result = runner.run(seed, evaluation_goal(seed, held_out=False).text)
    return _columns(result, parts.model, meters)


def _runner_of(case: LearnedCase, parts: Opened, meters: dict[str, Meter]) -> LockstepRunner:
    # Imported here: what a plan says can be read without MuJoCo.
    from vla_ros.sim.lockstep import LockstepConfig, LockstepRunner

    slow = fast = chunk = None
    if parts.chunk is not None:
        chunk = MeteredChunk(parts.chunk, meters["whole"])
    elif parts.slow is not None and parts.fast is not None:
        slow = MeteredSlow(parts.slow, meters["slow"])
        fast = MeteredFast(parts.fast, meters["fast"])
    return LockstepRunner(
        LockstepConfig(
            camera_hz=case.camera_hz,
            chunk_hz=case.chunk_hz,
            max_duration_s=case.limit_s,
            delay=case.delay,
            event=case.event,
        ),
        slow_policy=slow,
        fast_policy=fast,
        policy=chunk,
        whole=case.whole,
        cameras=CAMERAS,
        execution=ExecutionConfig(
            strategy=case.strategy,
            settings=case.settings,
            timeout_s=case.timeout_s,
            admits=case.admits,
            old_instruction_counts=case.old_instruction_counts,
        ),
    )


def _columns(result: EpisodeResult, model: str, meters: dict[str, Meter]) -> dict[str, Any]:
    cpu_s = 1e-9 * sum(meter.spent_ns for meter in meters.values())
    graph_s = 1e-9 * sum(meter.graph_ns for meter in meters.values())
    return {
        "success": result.success,
        "reason": result.reason,
        "end_s": result.duration_s,
        "chunk_hz": result.chunk_hz,
        "chunks": result.chunks,
        "slow_inferences": result.slow_inferences,
        "failed_calls": result.failed_calls,
        "cpu_ms_per_s": 1e3 * cpu_s / result.duration_s,
        "graph_ms_per_s": 1e3 * graph_s / result.duration_s,
        "chunks_per_cpu_s": _ratio(result.chunks, cpu_s),
        "chunks_per_graph_s": _ratio(result.chunks, graph_s),
        "slow_graph_ms": 1e-6 * _ratio(meters["slow"].graph_ns, result.slow_inferences),
        "fast_graph_ms": 1e-6 * _ratio(meters["fast"].graph_ns, result.chunks),
        "whole_graph_ms": 1e-6 * _ratio(meters["whole"].graph_ns, result.slow_inferences),
        "age_p50_s": 1e-3 * result.latent_age_ms_p50,
        "age_max_s": 1e-3 * result.latent_age_ms_max,
        "idle_share": result.idle_share,
        "event_s": result.event_s,
        "reaction_s": result.reaction_s,
        "grasped_wrong": result.lifted_wrong,
        "rows_after_expiry": result.rows_after_expiry,
        "model": model,
    }


def _ratio(of: float, over: float) -> float:
    """Return of / over; NaN where either is 0: there was nothing of the kind."""
    return of / over if of and over else math.nan
