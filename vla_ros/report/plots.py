# SPDX-License-Identifier: Apache-2.0
"""Plots of a run as inline SVG that follows the page's light or dark colours.

Text and axes are drawn in a marker colour that is replaced by ``currentColor``; curves use one
palette that is legible on both backgrounds.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_ros.recording.reader import Episode
from vla_ros.report.summary import chunk_intervals_ms, running, running_window

Array = NDArray[np.float64]

PALETTE = ("#2f7fd6", "#e0762b", "#2fa36b", "#b455c4", "#d64550", "#8a8f2e", "#3aa6b9")
FR3_TORQUE_LIMITS = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N·m, Franka's data sheet
MAX_POINTS = 1200
_INK = "#010203"
_WIDTH_IN = 9.0


def plot_control_period(episodes: Sequence[Episode], control_rate_hz: float) -> str:
    """Plot the control period: mean of every second, and percentiles since the start."""
    figure, (axes,) = _figure(1, 2.4)
    offset = 0.0
    names = {"median": "period_us_p50", "99th percentile": "period_us_p99"}
    for episode in episodes:
        control = episode.control
        each_second = np.unique(np.searchsorted(control.t_s, np.arange(0, episode.duration_s)))
        picks = each_second[each_second < len(control)]
        if len(picks) > 1:
            t_s, ticks = control.t_s[picks], control.column("ticks")[picks]
            mean_ms = 1000 * np.diff(t_s) / np.maximum(1, np.diff(ticks))
            _line(axes, t_s[1:] + offset, mean_ms, PALETTE[6])
        for name, colour in zip(names.values(), PALETTE, strict=False):
            _line(axes, control.t_s + offset, control.column(name) / 1000, colour)
        offset += episode.duration_s
        axes.axvline(offset, color=_INK, alpha=0.15, lw=0.8)
    axes.axhline(1000.0 / control_rate_hz, color=_INK, alpha=0.4, lw=0.8, ls="--")
    _legend(axes, {"mean of 1 s": PALETTE[6], **dict(zip(names, PALETTE, strict=False))})
    return _finish(figure, axes, "control period [ms]", "recorded time, all episodes [s]")


def plot_chunk_intervals(episodes: Sequence[Episode]) -> str:
    """Plot the distribution of the time between two action chunks."""
    figure, (axes,) = _figure(1, 2.4)
    parts = [chunk_intervals_ms(e) for e in episodes]
    values = np.concatenate(parts) if parts else np.empty(0)
    if values.size:
        upper = max(float(np.percentile(values, 99.5)) * 1.2, 1.0)
        bins = np.linspace(0.0, upper, 60)
        axes.hist(np.clip(values, 0, upper), bins=list(bins), color=PALETTE[0], alpha=0.85)
        axes.axvline(float(np.percentile(values, 99)), color=PALETTE[1], lw=1.4)
        axes.set_yscale("log")
        _legend(axes, {f"{values.size} intervals": PALETTE[0], "99th percentile": PALETTE[1]})
    return _finish(figure, axes, "count", "time between chunks [ms]")


def plot_latent_age(episode: Episode) -> str:
    """Plot how old the policy's eyes were: stamped age, and age read from the image itself."""
    figure, (axes,) = _figure(1, 2.2)
    chunks = episode.chunks
    _line(axes, chunks.t_s, chunks.column("latent_age_ms"), PALETTE[0])
    true_age = chunks.column("latent_age_true_ms")
    entries = {"stamped": PALETTE[0]}
    if np.isfinite(true_age).any():
        _line(axes, chunks.t_s, true_age, PALETTE[1], dashed=True)
        entries["decoded from the image"] = PALETTE[1]
    axes.set_ylim(bottom=0)
    _legend(axes, entries)
    return _finish(figure, axes, "latent age [ms]", "time [s]", episode)


def plot_tracking(episode: Episode) -> str:
    """Plot commanded (dashed) against measured position of the end effector, per axis."""
    figure, all_axes = _figure(3, 4.2)
    for i, (axes, name) in enumerate(zip(all_axes, "xyz", strict=True)):
        _line(axes, episode.measured.t_s, episode.measured.positions[:, i], PALETTE[0])
        _line(
            axes, episode.commanded.t_s, episode.commanded.positions[:, i], PALETTE[1], dashed=True
        )
        axes.set_ylabel(f"{name} [m]")
        _shade_running(axes, episode)
    _legend(all_axes[0], {"measured": PALETTE[0], "commanded": PALETTE[1]})
    return _finish(figure, all_axes[-1], "z [m]", "time [s]")


def plot_torque(episode: Episode, limits: Sequence[float] = FR3_TORQUE_LIMITS) -> str:
    """Plot joint torques as a share of their limits; limits are in N·m, in joint order."""
    figure, (axes,) = _figure(1, 2.6)
    joints = episode.joints
    count = min(len(limits), joints.tau.shape[1])
    for i in range(count):
        share = 100.0 * joints.tau[:, i] / limits[i]
        _line(axes, joints.t_s, share, PALETTE[i % len(PALETTE)])
    for level in (-100, 100):
        axes.axhline(level, color=PALETTE[4], lw=1.2, ls="--")
    _legend(axes, {f"J{i + 1}": PALETTE[i % len(PALETTE)] for i in range(count)})
    return _finish(figure, axes, "torque [% of limit]", "time [s]", episode)


def plot_seams(episode: Episode) -> str:
    """Plot how far the reference stepped where each chunk joined the running one."""
    figure, (axes,) = _figure(1, 1.9)
    chunks = running(episode, episode.chunks)
    seams_mm = 1000.0 * chunks.column("seam_m")
    axes.plot(chunks.t_s, seams_mm, ".", ms=2.5, color=PALETTE[0])
    axes.set_ylim(bottom=0)
    return _finish(figure, axes, "seam [mm]", "time [s]", episode)


def decimate(t_s: Array, values: Array, max_points: int = MAX_POINTS) -> tuple[Array, Array]:
    """Thin a curve to about ``max_points`` while keeping every extreme.

    Returns:
        Times and values (m,) where each block contributes its smallest and largest value.
    """
    if len(t_s) <= max_points:
        return t_s, values
    block = -(-len(t_s) * 2 // max_points)
    whole = len(t_s) // block * block
    blocks = np.nan_to_num(values[:whole]).reshape(-1, block)
    base = np.arange(0, whole, block)
    picks = np.sort(np.concatenate([base + blocks.argmin(1), base + blocks.argmax(1)]))
    picks = np.unique(np.append(picks, len(t_s) - 1))
    return t_s[picks], values[picks]


def _figure(rows: int, height_in: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    figure.patch.set_alpha(0.0)
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)
    all_axes = [grid[i, 0] for i in range(rows)]
    for axes in all_axes:
        axes.patch.set_alpha(0.0)
        axes.grid(visible=True, color=_INK, alpha=0.12, lw=0.6)
        axes.tick_params(colors=_INK, labelsize=8, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_INK)
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
    return figure, all_axes


def _line(axes: Axes, t_s: Array, values: Array, colour: str, *, dashed: bool = False) -> None:
    count = min(len(t_s), len(values))
    x, y = decimate(t_s[:count], np.asarray(values[:count], dtype=float))
    axes.plot(x, y, color=colour, lw=1.1, ls="--" if dashed else "-")


def _legend(axes: Axes, entries: dict[str, str]) -> None:
    """Write coloured names above the plot; cheaper to read than a box over the curves."""
    x = 1.0
    for name, colour in reversed(entries.items()):
        axes.annotate(
            name, (x, 1.02), xycoords="axes fraction", ha="right", va="bottom", color=colour, size=8
        )
        x -= 0.0085 * len(name) + 0.02


def _shade_running(axes: Axes, episode: Episode) -> None:
    start_s, end_s = running_window(episode)
    if np.isfinite(start_s):
        axes.axvspan(start_s, min(end_s, episode.duration_s), color=_INK, alpha=0.05, lw=0)


def _finish(
    figure: Figure, axes: Axes, y_label: str, x_label: str, episode: Episode | None = None
) -> str:
    axes.set_ylabel(y_label)
    axes.set_xlabel(x_label)
    for each in figure.axes:
        each.yaxis.label.set_fontsize(9)
        each.xaxis.label.set_fontsize(9)
    if episode is not None:
        _shade_running(axes, episode)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vla_ros"}):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Strip what only a stand-alone file needs and let the page decide ink and width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(
        r"font(?:-family)?: (\d+(?:\.\d+)?px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg
    )
    return svg.replace(_INK, "currentColor")
