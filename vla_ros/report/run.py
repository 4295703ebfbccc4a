# SPDX-License-Identifier: Apache-2.0
"""Everything a run leaves behind, made from its bags in one call."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vla_ros.errors import RecordingError
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.reader import Episode, EpisodeBag, find_episodes
from vla_ros.report.html import EpisodeSection, first_and_last_image, render_report, write_report
from vla_ros.report.summary import RunInfo, Summary, build_summary, result_from_recording
from vla_ros.report.video import VideoConfig, write_video

SUMMARY_FILE, REPORT_FILE, VIDEO_FILE = "summary.json", "report.html", "video.mp4"


def write_run(
    run_folder: Path,
    run: RunInfo,
    *,
    title: str = "vla_ros run",
    video: VideoConfig | None = None,
    with_video: bool = True,
) -> Summary:
    """Write ``summary.json``, ``report.html`` and ``video.mp4`` of a run and return the numbers.

    Episodes of ``run.results`` without a bag are listed without plots; with no results at all, the
    recordings' own outcomes are taken. A run without images has no video.

    Raises:
        RecordingError: if a bag cannot be read.
        OSError: if the folder cannot be written.
    """
    types = MessageTypes()
    bags = [EpisodeBag(path, types) for path in find_episodes(run_folder)]
    loaded = {bag.info.episode_id: (bag, bag.load()) for bag in bags}
    episodes = [episode for _, episode in loaded.values()]
    if not run.results:
        results = [result_from_recording(episode) for episode in episodes]
        run = dataclasses.replace(run, results=results)
    summary = build_summary(run, episodes)
    summary.write(run_folder / SUMMARY_FILE)
    video_path = _write_video(run_folder, episodes, video) if with_video else None
    sections = []
    for result in run.results:
        bag, episode = loaded.get(result.episode_id, (None, None))
        thumbnails = first_and_last_image(bag) if bag else []
        sections.append(EpisodeSection(result=result, episode=episode, thumbnails=thumbnails))
    page = render_report(
        summary,
        sections,
        run_folder=run_folder,
        title=title,
        video=video_path,
        control_rate_hz=run.control_rate_hz,
    )
    write_report(run_folder / REPORT_FILE, page)
    return summary


def _write_video(
    run_folder: Path, episodes: list[Episode], config: VideoConfig | None
) -> Path | None:
    path = run_folder / VIDEO_FILE
    try:
        write_video(path, [e.path for e in episodes], config)
    except RecordingError:
        return None
    return path
