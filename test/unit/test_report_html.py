# SPDX-License-Identifier: Apache-2.0
"""The page is self-contained, well-formed and says what the summary says; the video plays."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from recording_samples import write_sample

from vla_ros.errors import ConfigError, RecordingError
from vla_ros.recording.reader import EpisodeBag, find_episodes
from vla_ros.report.html import EpisodeSection, first_and_last_image, render_report
from vla_ros.report.plots import MAX_POINTS, decimate
from vla_ros.report.summary import (
    FaultRecord,
    RunInfo,
    build_summary,
    result_from_recording,
)
from vla_ros.report.video import VideoConfig, write_video

VOID = {"meta", "img", "path", "use", "rect", "image"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_sample(folder, 1, seconds=3.0)
    write_sample(folder, 2, seconds=2.0, success=False)
    return folder


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    sections = []
    for path in find_episodes(run_folder):
        bag = EpisodeBag(path)
        episode = bag.load()
        sections.append(
            EpisodeSection(
                result=result_from_recording(episode),
                episode=episode,
                thumbnails=first_and_last_image(bag),
            )
        )
    run = RunInfo(
        robot="fr3",
        task="tabletop <script>",
        policy="classical",
        strategy="blend",
        wall_s=9.0,
        results=[s.result for s in sections],
        faults=[FaultRecord(episode_id=1, t_s=0.5, kind="stopped", detail="a & b")],
        versions={"vla_ros": "0.1.0"},
    )
    episodes = [s.episode for s in sections if s.episode]
    video = run_folder / "video.mp4"
    return render_report(build_summary(run, episodes), sections, run_folder=run_folder, video=video)


def test_page_loads_nothing_from_outside(page: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r'(?:src|href)\s*=\s*"(?:https?:)?//', without_namespaces)
    assert "@import" not in page
    assert "<script" not in page
    assert "url(http" not in page


def test_page_escapes_text_and_tells_the_results(page: str) -> None:
    assert "tabletop &lt;script&gt;" in page
    assert "a &amp; b" in page
    assert "1 / 2" in page
    assert 'href="episode_1/"' in page
    assert 'src="video.mp4"' in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("<svg") == 2 + 2 * 4


def test_page_tags_are_balanced(page: str) -> None:
    stack: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in VOID:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in VOID:
                assert stack.pop() == tag

    Checker().feed(page)
    assert stack == []


def test_plots_follow_the_colours_of_the_page(page: str) -> None:
    assert "currentColor" in page
    assert "#010203" not in page


def test_decimate_keeps_extremes_and_ends() -> None:
    t_s = np.arange(50_000) / 1000
    values = np.sin(t_s)
    values[31_337] = 9.0
    values[4_242] = -9.0
    t_thin, thin = decimate(t_s, values)
    assert len(thin) <= MAX_POINTS + 2
    assert (thin.max(), thin.min()) == (9.0, -9.0)
    assert t_thin[-1] == t_s[-1]
    assert np.all(np.diff(t_thin) > 0)


def test_video_has_real_time_length_and_both_cameras(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    config = VideoConfig(height_px=120)
    frames = write_video(path, find_episodes(run_folder), config)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.duration * stream.time_base) == pytest.approx(5.0, abs=0.1)
    assert len(shown) == frames == 100
    assert shown[0].width == 320
    first, later = shown[0].to_ndarray(format="rgb24"), shown[30].to_ndarray(format="rgb24")
    assert np.abs(first[:120].astype(int) - later[:120]).max() > 60
    assert not list(tmp_path.glob("*.tmp*"))


def test_video_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no images"):
        write_video(tmp_path / "v.mp4", [])


def test_video_config_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="fps"):
        VideoConfig(fps=0)
