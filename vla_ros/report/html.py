# SPDX-License-Identifier: Apache-2.0
"""``report.html``: one self-contained page about a run. Loads nothing from anywhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from vla_ros.recording.reader import Episode, EpisodeBag
from vla_ros.report import plots
from vla_ros.report.summary import EpisodeResult, Summary, latent_latencies_ms

_STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #ffffff; --ink: #22262b; --soft: #6b737c;
  --line: #e3e5e8; --good: #23895a; --bad: #c23b46; }
@media (prefers-color-scheme: dark) { :root { --bg: #17191c; --card: #1f2226; --ink: #dfe3e7;
  --soft: #929aa3; --line: #33383e; --good: #4cc38a; --bad: #ef7a83; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 32px 20px 64px; background: var(--bg);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 36px 0 12px; }
h3 { font-size: 14px; margin: 18px 0 4px; color: var(--soft); font-weight: 600; }
.sub { color: var(--soft); margin: 2px 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 10px; }
.tile, details, figure, .wide { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.tile { padding: 12px 14px; } .tile b { display: block; font-size: 21px; font-weight: 600; }
.tile span { color: var(--soft); font-size: 12.5px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: 7px 12px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; } tr:last-child td { border: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 12px 0; padding: 10px 12px; } figcaption { color: var(--soft); font-size: 12.5px; }
svg { width: 100%; height: auto; display: block; } a { color: inherit; }
details { margin: 10px 0; padding: 4px 14px; } summary { cursor: pointer; padding: 8px 0; }
.thumbs { display: flex; gap: 10px; flex-wrap: wrap; }
.thumbs figure { margin: 6px 0; padding: 8px; }
.thumbs img { display: block; width: 260px; max-width: 100%; border-radius: 6px; }
video { width: 100%; border-radius: 10px; border: 1px solid var(--line); }
footer { margin-top: 40px; color: var(--soft); font-size: 12.5px; }
"""


@dataclass(frozen=True, kw_only=True)
class EpisodeSection:
    """What the page shows of one episode; ``thumbnails`` are (caption, JPEG) pairs."""

    result: EpisodeResult
    episode: Episode | None = None
    thumbnails: Sequence[tuple[str, bytes]] = ()
    torque_limits: Sequence[float] = plots.FR3_TORQUE_LIMITS


def first_and_last_image(bag: EpisodeBag, camera: str = "scene_camera") -> list[tuple[str, bytes]]:
    """Return the first and last image of a camera, with captions; empty if it was not recorded."""
    images = list(bag.images(camera))
    if not images:
        return []
    picks = [images[0]] if len(images) == 1 else [images[0], images[-1]]
    return [(f"{t_s:.1f} s", data) for t_s, data in picks]


def render_report(
    summary: Summary,
    sections: Sequence[EpisodeSection],
    *,
    run_folder: Path,
    title: str = "vla_ros run",
    video: Path | None = None,
    control_rate_hz: float = 1000.0,
) -> str:
    """Return the page as text.

    Args:
        summary: numbers of the run.
        sections: episodes in the order of the table.
        run_folder: where the page will lie; links to bags and video are relative to it.
        title: heading.
        video: file to show at the top.
        control_rate_hz: nominal rate, drawn in the timing plot.
    """
    episodes = [s.episode for s in sections if s.episode is not None]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{escape(_subtitle(summary))}</p>',
        _tiles(summary),
        _video(video, run_folder),
        "<h2>Episodes</h2>",
        _episode_table(sections, run_folder),
        _fault_table(summary),
        "<h2>Loop timing</h2>",
        _figure(
            plots.plot_control_period(episodes, control_rate_hz), "Period of the control loop."
        ),
        _figure(plots.plot_chunk_intervals(episodes), "Time between two action chunks."),
        "<h2>Each episode</h2>",
        *(_episode_details(s, opened=i == 0) for i, s in enumerate(sections)),
        "<h2>Recording</h2>",
        _topic_table(episodes),
        f"<footer>{escape(_versions(summary))}</footer>",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    )
    return head + "\n".join(part for part in body if part) + "</body></html>\n"


def write_report(path: Path, text: str) -> None:
    """Write the page atomically."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf8")
    temporary.replace(path)


def number(value: float, digits: int = 1, unit: str = "") -> str:
    """Format a number for people; "n/a" when it was not measured."""
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def _subtitle(s: Summary) -> str:
    return f"{s.robot} · {s.task} · {s.policy} · {s.strategy} · {number(s.wall_s, 0, 's')}"


def _versions(s: Summary) -> str:
    return " · ".join(f"{name} {version}" for name, version in sorted(s.versions.items()))


def _tiles(s: Summary) -> str:
    rate = number(100 * s.success_rate, 0)
    values = (
        (f"{s.successes} / {s.episodes}", f"episodes succeeded ({rate} %)"),
        (number(s.latent_age_ms.p50, 0, "ms"), f"latent age, p95 {number(s.latent_age_ms.p95, 0)}"),
        (
            number(s.slow.rate_hz, 1, "Hz"),
            f"slow loop, latency {number(s.slow.latency_ms_p50, 0)} ms",
        ),
        (number(s.fast.chunks_hz, 1, "Hz"), f"fast loop, p99 {number(s.fast.interval_ms_p99)} ms"),
        (
            number(s.control.rate_hz, 0, "Hz"),
            f"control, p99 period {number(s.control.period_us_p99 / 1000, 2)} ms",
        ),
        (number(1000 * s.seam.p95, 2, "mm"), "seam between chunks, p95"),
        (number(s.real_time_factor, 3), "real-time factor"),
        (str(s.recording.lost), f"lost of {s.recording.published} published messages"),
    )
    tiles = (
        f'<div class="tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for v, k in values
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _video(video: Path | None, run_folder: Path) -> str:
    if video is None:
        return ""
    source = escape(_relative(video, run_folder), quote=True)
    return f'<h2>Video</h2><video controls preload="metadata" src="{source}"></video>'


def _relative(path: Path, run_folder: Path) -> str:
    return str(path.relative_to(run_folder)) if path.is_relative_to(run_folder) else path.name


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Build a table from cells that are HTML already; cells that start with ``=`` are numbers."""
    numeric = [cell.startswith("=") for cell in rows[0]] if rows else [False] * len(head)
    cells = "".join(
        f'<th class="n">{name}</th>' if right else f"<th>{name}</th>"
        for name, right in zip(head, numeric, strict=True)
    )
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        tags = (
            f'<td class="n">{c[1:]}</td>' if c.startswith("=") else f"<td>{c}</td>" for c in row
        )
        lines.append(f"<tr>{''.join(tags)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _episode_table(sections: Sequence[EpisodeSection], run_folder: Path) -> str:
    head = (
        "#",
        "seed",
        "instruction",
        "result",
        "time",
        "slow latency p50",
        "latent age p50",
        "bag",
    )
    rows = []
    for section in sections:
        r, e = section.result, section.episode
        mark = "good" if r.success else "bad"
        word = "success" if r.success else r.outcome or "failed"
        reason = "" if r.reason == word else escape(r.reason)
        age = _median(e.chunks.column("latent_age_ms")) if e else math.nan
        rows.append(
            (
                f"={r.episode_id}",
                "=n/a" if r.seed is None else f"={r.seed}",
                escape(r.instruction),
                f'<span class="{mark}">{escape(word)}</span> {reason}',
                f"={number(r.elapsed_s, 1, 's')}",
                f"={number(_median(latent_latencies_ms(e)) if e else math.nan, 0, 'ms')}",
                f"={number(age, 0, 'ms')}",
                _bag_link(e, run_folder),
            )
        )
    return _table(head, rows)


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)] if values.size else values
    return float(np.median(finite)) if finite.size else math.nan


def _bag_link(episode: Episode | None, run_folder: Path) -> str:
    if episode is None:
        return "n/a"
    target = escape(_relative(episode.path, run_folder), quote=True)
    return f'<a href="{target}/">{target}</a>'


def _fault_table(summary: Summary) -> str:
    if not summary.faults:
        return ""
    rows = [
        (f"={f.episode_id}", f"={number(f.t_s, 2, 's')}", escape(f.kind), escape(f.detail))
        for f in summary.faults
    ]
    return "<h2>Faults</h2>" + _table(("episode", "time", "kind", "what"), rows)


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _episode_details(section: EpisodeSection, *, opened: bool) -> str:
    result, episode = section.result, section.episode
    head = f"#{result.episode_id} {escape(result.instruction)} ({number(result.elapsed_s, 1, 's')})"
    thumbs = "".join(
        f'<figure><img alt="scene camera at {escape(caption, quote=True)}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, data in section.thumbnails
    )
    parts = [f'<div class="thumbs">{thumbs}</div>' if thumbs else ""]
    if episode is not None:
        parts += [
            _figure(plots.plot_latent_age(episode), "Age of the image behind every action chunk."),
            _figure(plots.plot_tracking(episode), "End effector, base frame; task time is shaded."),
            _figure(plots.plot_torque(episode, section.torque_limits), "Commanded joint torque."),
            _figure(plots.plot_seams(episode), "Step of the reference where chunks join."),
        ]
    state = " open" if opened else ""
    return f"<details{state}><summary>{head}</summary>{''.join(parts)}</details>"


def _topic_table(episodes: Sequence[Episode]) -> str:
    sums: dict[str, list[int]] = {}
    types: dict[str, str] = {}
    for episode in episodes:
        types |= episode.info.types
        for topic, a in episode.info.topics.items():
            row = sums.setdefault(topic, [0, 0, 0, 0])
            for i, count in enumerate((a.published, a.recorded, a.lost, a.written)):
                row[i] += count
    rows = [
        (escape(t), escape(types.get(t, "")), *(f"={n}" for n in counts))
        for t, counts in sorted(sums.items())
    ]
    return _table(("topic", "type", "published", "recorded", "lost", "in the bag"), rows)
