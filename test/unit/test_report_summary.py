# SPDX-License-Identifier: Apache-2.0
"""summary.json: stable names, numbers that follow from the recordings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from recording_samples import write_sample

from vla_ros.recording.reader import Episode, Table, load_episode
from vla_ros.report.summary import (
    EpisodeResult,
    RunInfo,
    build_summary,
    find_faults,
    result_from_recording,
    running,
)

NAMES = {
    "robot": None,
    "task": None,
    "policy": None,
    "strategy": None,
    "episodes": None,
    "successes": None,
    "success_rate": None,
    "wall_s": None,
    "real_time_factor": None,
    "control": {
        "rate_hz",
        "priority",
        "period_us_p50",
        "period_us_p99",
        "compute_us_p50",
        "compute_us_p99",
        "ticks",
        "skipped",
    },
    "slow": {"rate_hz", "latency_ms_p50", "latency_ms_p95"},
    "fast": {"chunks_hz", "interval_ms_p99", "latency_ms_p50", "latency_ms_p95"},
    "latent_age_ms": {"p50", "p95", "max"},
    "age_error_ms_max": None,
    "seam": {"p50", "p95"},
    "starved_fraction": None,
    "recording": {"path", "published", "recorded", "lost"},
    "faults": None,
    "versions": None,
}


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    return load_episode(write_sample(tmp_path_factory.mktemp("run"), 1, seconds=4.0))


def run_info(**changes: object) -> RunInfo:
    results = [
        EpisodeResult(episode_id=1, instruction="a", success=True, elapsed_s=3.0),
        EpisodeResult(episode_id=2, instruction="b", success=False, elapsed_s=9.0),
    ]
    values: dict[str, object] = {
        "robot": "fr3",
        "task": "tabletop",
        "policy": "classical",
        "strategy": "blend",
        "wall_s": 12.0,
        "results": results,
        "recording_path": "runs/x",
    }
    return RunInfo(**(values | changes))  # type: ignore[arg-type]


def test_summary_has_exactly_the_stable_names(episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    build_summary(run_info(), [episode]).write(path)
    values = json.loads(path.read_text())
    assert values.keys() == NAMES.keys()
    for name, inner in NAMES.items():
        if inner is not None:
            assert values[name].keys() == inner


def test_summary_numbers_follow_from_the_recording(episode: Episode) -> None:
    s = build_summary(run_info(), [episode])
    assert (s.episodes, s.successes, s.success_rate) == (2, 1, 0.5)
    assert s.real_time_factor == pytest.approx(1.0)
    assert s.control.priority == "FIFO 80"
    assert 1040 <= s.control.period_us_p99 <= 1060
    assert (s.control.ticks, s.control.skipped) == (79 * 50, 3)
    assert s.slow.rate_hz == pytest.approx(4.0)
    assert s.slow.latency_ms_p50 == pytest.approx(150.0)
    assert s.fast.chunks_hz == pytest.approx(50.0, rel=0.01)
    assert 19 <= s.fast.interval_ms_p99 <= 21.1
    assert 150 <= s.latent_age_ms.p50 <= s.latent_age_ms.p95 <= s.latent_age_ms.max <= 250
    assert s.age_error_ms_max == pytest.approx(0.5)
    assert 0 < s.seam.p50 < s.seam.p95 < 0.0005
    assert s.recording.published == s.recording.recorded + s.recording.lost
    assert s.recording.lost == len(episode.info.topics)
    assert s.faults == []


def test_starved_fraction_counts_only_while_the_instruction_is_in_force(episode: Episode) -> None:
    # Four of forty statuses are starved; the first comes before the task runs.
    assert build_summary(run_info(), [episode]).starved_fraction == pytest.approx(3 / 39)
    assert len(running(episode, episode.executor)) == 39


def test_summary_without_recordings_has_null_measurements() -> None:
    values = json.loads(build_summary(run_info(results=[]), []).to_json())
    assert values["success_rate"] is None
    assert values["control"]["period_us_p99"] is None
    assert values["latent_age_ms"]["max"] is None
    assert values["recording"] == {"path": "runs/x", "published": 0, "recorded": 0, "lost": 0}


def test_result_from_recording_reads_outcome_and_time(episode: Episode) -> None:
    result = result_from_recording(episode)
    assert (result.success, result.seed) == (True, 41)
    assert result.elapsed_s == pytest.approx(4.0 - 0.01)


def test_find_faults_lists_stops_faults_and_late_rows(episode: Episode) -> None:
    control = Table(
        t_s=np.arange(5.0),
        columns={
            "mode": np.array([1.0, 4.0, 4.0, 1.0, 5.0]),
            "reason": np.array(["", "operator", "operator", "", "NaN"]),
            "rows_after_expiry": np.array([0.0, 0.0, 0.0, 2.0, 2.0]),
        },
    )
    changed = type(episode)(**(vars(episode) | {"control": control}))
    found = [(f.t_s, f.kind, f.detail) for f in find_faults(changed)]
    late = "2 rows executed after they had expired"
    assert found == [
        (1, "stopped", "operator"),
        (3, "rows_after_expiry", late),
        (4, "fault", "NaN"),
    ]
    assert not math.isnan(found[0][0])
