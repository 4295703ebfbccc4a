# SPDX-License-Identifier: Apache-2.0
"""``summary.json``: the numbers of a run, computed from its recordings. The names are stable."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.recording.reader import Episode, Table
from vla_ros.types import ControlMode

Array = NDArray[np.float64]

TASK_RUNNING = 1
"""``TaskState.RUNNING``."""
_NS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True)
class ControlSummary:
    """The real-time loop.

    Attributes:
        rate_hz: ticks done per second of recording.
        period_us_p50, period_us_p99, compute_us_p50, compute_us_p99: over all ticks since the
            control host started, as it last reported them [us].
        ticks, skipped: done and missed while recording.
    """

    rate_hz: float
    priority: str
    period_us_p50: float
    period_us_p99: float
    compute_us_p50: float
    compute_us_p99: float
    ticks: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class SlowSummary:
    """The slow policy: latents per second, and capture of the oldest image to publication [ms]."""

    rate_hz: float
    latency_ms_p50: float
    latency_ms_p95: float


@dataclass(frozen=True, kw_only=True)
class FastSummary:
    """The fast policy: chunks per second, time between them and time to compute one [ms]."""

    chunks_hz: float
    interval_ms_p99: float
    latency_ms_p50: float
    latency_ms_p95: float


@dataclass(frozen=True, kw_only=True)
class AgeSummary:
    """Age of the latent's oldest image when a chunk was computed [ms]."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True, kw_only=True)
class SeamSummary:
    """Step of the reference where one chunk joins the next [m]."""

    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class RecordingSummary:
    """Messages over all episodes and counted topics: ``published == recorded + lost``."""

    path: str
    published: int
    recorded: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class FaultRecord:
    """Something that should not happen: when [s], in which episode, what."""

    episode_id: int
    t_s: float
    kind: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """How one episode ended, as the judge or the task said.

    ``elapsed_s`` counts from the instruction to the end of the task.
    """

    episode_id: int
    instruction: str
    success: bool
    elapsed_s: float
    seed: int | None = None
    outcome: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What the caller knows about a run that is not in its bags.

    Attributes:
        wall_s: duration of the whole run [s].
        control_rate_hz: rate the control loop was asked to keep.
        recording_path: the run's folder as it should appear in the summary.
        control: exact timing, if the caller has it; otherwise it is taken from the recordings.
    """

    robot: str
    task: str
    policy: str
    strategy: str
    wall_s: float
    results: Sequence[EpisodeResult]
    control_rate_hz: float = 1000.0
    recording_path: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[FaultRecord] = ()
    control: ControlSummary | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Contents of ``summary.json``; what could not be measured is NaN here and null in the file."""

    robot: str
    task: str
    policy: str
    strategy: str
    episodes: int
    successes: int
    success_rate: float
    wall_s: float
    real_time_factor: float
    control: ControlSummary
    slow: SlowSummary
    fast: FastSummary
    latent_age_ms: AgeSummary
    age_error_ms_max: float
    seam: SeamSummary
    starved_fraction: float
    recording: RecordingSummary
    faults: Sequence[FaultRecord]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return the JSON text."""
        return json.dumps(_without_nan(dataclasses.asdict(self)), indent=2)

    def write(self, path: Path) -> None:
        """Write the JSON file atomically."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(self.to_json() + "\n", "utf8")
        temporary.replace(path)


def build_summary(run: RunInfo, episodes: Sequence[Episode]) -> Summary:
    """Compute the numbers of a run from its recordings."""
    successes = sum(result.success for result in run.results)
    count = len(run.results)
    ages = _joined(running(e, e.chunks).column("latent_age_ms") for e in episodes)
    seams = _joined(running(e, e.chunks).column("seam_m") for e in episodes)
    starved = _joined(running(e, e.executor).column("starved") for e in episodes)
    return Summary(
        robot=run.robot,
        task=run.task,
        policy=run.policy,
        strategy=run.strategy,
        episodes=count,
        successes=successes,
        success_rate=successes / count if count else math.nan,
        wall_s=run.wall_s,
        real_time_factor=real_time_factor(episodes, run.control_rate_hz),
        control=run.control or summarise_control(episodes),
        slow=summarise_slow(episodes),
        fast=summarise_fast(episodes),
        latent_age_ms=AgeSummary(p50=_p(ages, 50), p95=_p(ages, 95), max=_p(ages, 100)),
        age_error_ms_max=_p(_joined(age_errors_ms(e) for e in episodes), 100),
        seam=SeamSummary(p50=_p(seams, 50), p95=_p(seams, 95)),
        starved_fraction=float(np.mean(starved)) if starved.size else math.nan,
        recording=RecordingSummary(
            path=run.recording_path,
            published=sum(e.info.published for e in episodes),
            recorded=sum(e.info.recorded for e in episodes),
            lost=sum(e.info.lost for e in episodes),
        ),
        faults=[*run.faults, *(fault for e in episodes for fault in find_faults(e))],
        versions=dict(run.versions),
    )


def result_from_recording(episode: Episode) -> EpisodeResult:
    """Return how an episode ended according to its own bag: outcome, times of the task states."""
    start_s, end_s = running_window(episode)
    end_s = min(end_s, episode.duration_s)
    reasons = episode.task.column("reason")
    return EpisodeResult(
        episode_id=episode.info.episode_id,
        instruction=episode.info.instruction,
        success=episode.info.outcome == "success",
        elapsed_s=max(0.0, end_s - max(start_s, 0.0)),
        seed=episode.info.seed,
        outcome=str(episode.info.outcome),
        reason=str(reasons[-1]) if reasons.size else "",
    )


def running_window(episode: Episode) -> tuple[float, float]:
    """Return when the instruction was in force [s]; everything if the bag does not say."""
    status = episode.task.column("status")
    began = np.flatnonzero(status == TASK_RUNNING)
    if not began.size:
        return -math.inf, math.inf
    ended = np.flatnonzero(status[began[0] :] != TASK_RUNNING)
    end_s = float(episode.task.t_s[began[0] + ended[0]]) if ended.size else math.inf
    return float(episode.task.t_s[began[0]]), end_s


def running(episode: Episode, table: Table) -> Table:
    """Return the rows of a table while the instruction was in force."""
    start_s, end_s = running_window(episode)
    keep = (table.t_s >= start_s) & (table.t_s <= end_s)
    return Table(t_s=table.t_s[keep], columns={k: v[keep] for k, v in table.columns.items()})


def chunk_intervals_ms(episode: Episode) -> Array:
    """Return the times between chunks [ms], by the publisher's own monotonic clock."""
    publish_ns = running(episode, episode.chunks).column("publish_ns")
    return np.asarray(np.diff(publish_ns[publish_ns > 0]) / _NS_PER_MS, dtype=float)


def latent_latencies_ms(episode: Episode) -> Array:
    """Return capture of the oldest image to publication [ms] of every latent."""
    published = episode.latents.column("publish_ns")
    captured = episode.latents.column("capture_oldest_ns")
    valid = (published > 0) & (captured > 0)
    return np.asarray((published[valid] - captured[valid]) / _NS_PER_MS, dtype=float)


def age_errors_ms(episode: Episode) -> Array:
    """Return how far the stamped age was from the one decoded from the image itself [ms]."""
    table = running(episode, episode.chunks)
    error = np.abs(table.column("latent_age_ms") - table.column("latent_age_true_ms"))
    return np.asarray(error[np.isfinite(error)], dtype=float)


def real_time_factor(episodes: Sequence[Episode], control_rate_hz: float) -> float:
    """Return robot time over wall time: control ticks done, times their nominal period."""
    return summarise_control(episodes).rate_hz / control_rate_hz


def summarise_control(episodes: Sequence[Episode]) -> ControlSummary:
    """Summarise the control host's status messages."""
    tables = [e.control for e in episodes if len(e.control) > 1]

    def last(name: str) -> float:
        return float(tables[-1].column(name)[-1]) if tables else math.nan

    seconds = sum(float(t.t_s[-1] - t.t_s[0]) for t in tables)
    ticks = _increase(tables, "ticks")
    return ControlSummary(
        rate_hz=ticks / seconds if seconds > 0 else math.nan,
        priority=str(tables[-1].column("priority")[-1]) if tables else "",
        period_us_p50=last("period_us_p50"),
        period_us_p99=last("period_us_p99"),
        compute_us_p50=last("compute_us_p50"),
        compute_us_p99=last("compute_us_p99"),
        ticks=ticks,
        skipped=_increase(tables, "skipped"),
    )


def summarise_slow(episodes: Sequence[Episode]) -> SlowSummary:
    """Summarise the latents that were recorded."""
    latencies = _joined(latent_latencies_ms(e) for e in episodes)
    rates = [_rate_hz(e.latents.column("publish_ns")) for e in episodes]
    return SlowSummary(
        rate_hz=_mean(np.array(rates)),
        latency_ms_p50=_p(latencies, 50),
        latency_ms_p95=_p(latencies, 95),
    )


def summarise_fast(episodes: Sequence[Episode]) -> FastSummary:
    """Summarise the chunks that were recorded."""
    latencies = _joined(running(e, e.chunks).column("inference_ms") for e in episodes)
    rates = [_rate_hz(running(e, e.chunks).column("publish_ns")) for e in episodes]
    return FastSummary(
        chunks_hz=_mean(np.array(rates)),
        interval_ms_p99=_p(_joined(chunk_intervals_ms(e) for e in episodes), 99),
        latency_ms_p50=_p(latencies, 50),
        latency_ms_p95=_p(latencies, 95),
    )


def find_faults(episode: Episode) -> list[FaultRecord]:
    """Return what went wrong according to the control host: faults, stops, rows run too late."""
    control, found = episode.control, []
    modes = control.column("mode")
    for mode in (ControlMode.FAULT, ControlMode.STOPPED):
        entered = np.flatnonzero(np.diff((modes == mode).astype(int), prepend=0) > 0)
        for i in entered:
            reason = str(control.column("reason")[i])
            found.append((float(control.t_s[i]), mode.name.lower(), reason))
    late = control.column("rows_after_expiry")
    for i in np.flatnonzero(np.diff(late) > 0):
        detail = f"{int(late[i + 1] - late[i])} rows executed after they had expired"
        found.append((float(control.t_s[i + 1]), "rows_after_expiry", detail))
    number = episode.info.episode_id
    return [FaultRecord(episode_id=number, t_s=t, kind=k, detail=d) for t, k, d in sorted(found)]


def _rate_hz(instants_ns: Array) -> float:
    valid = instants_ns[instants_ns > 0]
    if valid.size < 2 or valid[-1] <= valid[0]:
        return math.nan
    return float((valid.size - 1) * 1e9 / (valid[-1] - valid[0]))


def _increase(tables: Iterable[Table], name: str) -> int:
    return sum(int(t.column(name)[-1] - t.column(name)[0]) for t in tables)


def _joined(parts: Iterable[Array]) -> Array:
    listed = [np.asarray(p, dtype=float) for p in parts]
    return np.concatenate(listed) if listed else np.empty(0)


def _p(values: Array, percent: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else math.nan


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else math.nan


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value
