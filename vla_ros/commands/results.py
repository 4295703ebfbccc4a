# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: summary.json, report.html, video.mp4."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla_ros.bringup import BringupConfig
from vla_ros.commands.output import say
from vla_ros.errors import RecordingError
from vla_ros.recording.reader import EpisodeBag, find_episodes
from vla_ros.report.html import EpisodeSection, first_and_last_image, render_report, write_report
from vla_ros.report.summary import (
    ControlSummary,
    EpisodeResult,
    FaultRecord,
    RunInfo,
    Summary,
    build_summary,
)
from vla_ros.report.video import write_video

_PACKAGES = ("vla_ros", "vla_ros_core", "mujoco", "pin", "numpy", "rosbags", "ros-rclpy")


def write_results(
    folder: Path,
    bringup: BringupConfig,
    results: Sequence[EpisodeResult],
    live: Any,
    faults: Sequence[tuple[float, str, str]],
    wall_s: float,
    with_video: bool,
) -> Summary:
    """Write everything that can be written and return the summary."""
    bags = [EpisodeBag(path) for path in find_episodes(folder)]
    episodes = [bag.load() for bag in bags]
    summary = build_summary(
        RunInfo(
            robot=bringup.robot,
            task="pick and place by colour",
            policy=bringup.policy,
            strategy=bringup.strategy,
            wall_s=wall_s,
            results=results,
            recording_path=str(folder),
            versions=versions(),
            faults=[
                FaultRecord(episode_id=0, t_s=t_s, kind=kind, detail=detail)
                for t_s, kind, detail in faults
            ],
            control=None if episodes or live is None else _from_live(live),
        ),
        episodes,
    )
    summary.write(folder / "summary.json")
    video = _write_video(folder, [bag.path for bag in bags]) if with_video and bags else None
    by_number = {e.info.episode_id: (bag, e) for bag, e in zip(bags, episodes, strict=True)}
    sections = []
    for result in results:
        bag, episode = by_number.get(result.episode_id, (None, None))
        sections.append(
            EpisodeSection(
                result=result,
                episode=episode,
                thumbnails=first_and_last_image(bag) if bag else (),
            )
        )
    page = render_report(summary, sections, run_folder=folder, title="vla_ros demo", video=video)
    write_report(folder / "report.html", page)
    return summary


def versions() -> dict[str, str]:
    """Return the versions of what produced the numbers."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _write_video(folder: Path, bags: Sequence[Path]) -> Path | None:
    path = folder / "video.mp4"
    try:
        write_video(path, bags)
    except RecordingError as error:
        say(f"no video: {error}")
        return None
    return path


def _from_live(live: Any) -> ControlSummary | None:
    """Return the control loop's numbers of a run that was not recorded."""
    c = live.control
    if c is None:
        return None
    return ControlSummary(
        rate_hz=math.nan,
        priority=c.priority,
        period_us_p50=c.period_us_p50,
        period_us_p99=c.period_us_p99,
        compute_us_p50=c.compute_us_p50,
        compute_us_p99=c.compute_us_p99,
        ticks=c.ticks,
        skipped=c.skipped,
    )
