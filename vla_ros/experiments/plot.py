# SPDX-License-Identifier: Apache-2.0
"""The picture of an experiment: one panel a group, one line an arm, bars for the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vla_ros.experiments.plan import Plan

if TYPE_CHECKING:
    from vla_ros.experiments.report import Entry

_COLOURS = (
    "#7f7f7f", "#e0762b", "#b5651d", "#c44e52", "#937860", "#8172b3", "#55a868", "#64b5cd",
    "#ccb974", "#da8bc3", "#4c72b0",
)  # fmt: skip
_OURS = "#1f5fbf"
_OURS_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
_LEGEND_INCHES = 2.6


def plot_entries(plan: Plan, entries: Sequence[Entry], path: Path) -> None:
    """Draw the metric over the axis."""
    groups = [g for g in dict.fromkeys(c.group for c in plan.cells) if _of(entries, g)]
    if not groups:
        return
    # Same file for the same runs.
    matplotlib.rcParams["svg.hashsalt"] = plan.name
    figure = Figure(figsize=(5.2 * len(groups) + _LEGEND_INCHES, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=plan.metric == "success")[0]
    for panel, group in zip(panels, groups, strict=True):
        _draw(panel, plan, group, _of(entries, group))
    panels[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, metadata={"Date": None})


def _of(entries: Sequence[Entry], group: str) -> list[Entry]:
    return [e for e in entries if e.cell.group == group]


def _draw(panel: Axes, plan: Plan, group: str, entries: Sequence[Entry]) -> None:
    scale = 100.0 if plan.metric == "success" else 1.0
    ours = [arm for arm in plan.arms if arm.is_ours]
    for i, arm in enumerate(plan.arms):
        mine = sorted((e for e in entries if e.arm == arm), key=lambda e: e.cell.x)
        if not mine:
            continue
        means = [scale * e.mean for e in mine]
        bars = [
            [m - scale * e.low for m, e in zip(means, mine, strict=True)],
            [scale * e.high - m for m, e in zip(means, mine, strict=True)],
        ]
        line, marker = ("-" if i % 2 == 0 else "--"), "."
        if arm.is_ours:
            line, marker = _OURS_STYLES[ours.index(arm) % len(_OURS_STYLES)]
        panel.errorbar(
            [e.cell.x for e in mine],
            means,
            yerr=[[max(b, 0.0) for b in row] for row in bars],
            label=arm.name,
            color=_OURS if arm.is_ours else _COLOURS[i % len(_COLOURS)],
            linewidth=2.2 if arm.is_ours else 1.1,
            linestyle=line,
            marker=marker,
            markersize=4,
            capsize=2,
        )
    panel.set_xlabel(plan.axis)
    panel.set_ylabel("success [%]" if plan.metric == "success" else plan.metric)
    panel.set_title(group or plan.name, fontsize=9)
    panel.grid(alpha=0.25)
    if plan.metric == "success":
        panel.set_ylim(-2, 102)
