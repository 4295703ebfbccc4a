# SPDX-License-Identifier: Apache-2.0
"""The course of a training as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

_PANELS = (
    ("loss", ("loss", "rows", "goal", "gates", "gripper", "phase", "places", "cells", "anchors")),
    ("distance on checks [cm]", ("check_pick_cm", "check_pick_now_cm", "check_place_cm")),
    (
        "distance of the last row on checks [mm]",
        ("check_row_mm", "check_expert_mm", "check_spread_mm", "check_free_mm", "check_ahead_mm"),
    ),
    ("share right on checks", ("check_gripper", "check_phase")),
)


def plot_losses(log: Path, path: Path) -> None:
    """Draw the columns of a log (CSV, one line per check) over the steps."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    steps = [float(row["step"]) for row in rows]
    figure = Figure(figsize=(13.5, 4.0), layout="constrained")
    FigureCanvasSVG(figure)
    shown = [(title, [n for n in names if n in rows[0]]) for title, names in _PANELS]
    shown = [(title, names) for title, names in shown if names]
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, (title, names) in zip(panels, shown, strict=True):
        for name in names:
            label = (
                name.removeprefix("check_")
                .removesuffix("_cm")
                .removesuffix("_mm")
                .replace("_", " ")
            )
            panel.plot(steps, [float(row[name]) for row in rows], label=label, linewidth=1.2)
        if not title.startswith("share"):
            panel.set_yscale("log")
        panel.set_xlabel("step")
        panel.set_title(title, fontsize=9)
        panel.legend(fontsize=7, frameon=False)
    figure.savefig(path, metadata={"Date": None})
