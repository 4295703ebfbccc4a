# SPDX-License-Identifier: Apache-2.0
"""The course of a training as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

_PANELS = (
    ("loss", ("loss", "rows", "goal", "gates", "gripper", "phase", "places", "cells", "anchors")),
    ("distance on checks [cm]", ("check_pick_cm", "check_pick_now_cm", "check_place_cm")),
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
    panels = figure.subplots(1, len(_PANELS), squeeze=False)[0]
    for panel, (title, names) in zip(panels, _PANELS, strict=True):
        for name in names:
            label = name.removeprefix("check_").removesuffix("_cm").replace("_", " ")
            panel.plot(steps, [float(row[name]) for row in rows], label=label, linewidth=1.2)
        if not title.startswith("share"):
            panel.set_yscale("log")
        panel.set_xlabel("step")
        panel.set_title(title, fontsize=9)
        panel.legend(fontsize=7, frameon=False)
    figure.savefig(path, metadata={"Date": None})
