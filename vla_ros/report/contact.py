# SPDX-License-Identifier: Apache-2.0
"""Tables, verdicts and plots of the contact tasks, from the rows of their CSV files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vla_ros.report.statistics import wilson_interval

Row = dict[str, str]

WIPE_GATED = ("flat", "tilted", "curved")
MAX_PENETRATION_UM = 50.0
_BLUE, _ORANGE, _GREY = "#2f7fd6", "#e0762b", "#808080"


def write_report(task: str, rows: Sequence[Row], folder: Path) -> tuple[bool, str]:
    """Write ``contact_<task>.md`` and ``.svg``; return whether all gates are met, and the text."""
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    table, gates = (_wipe if task == "wipe" else _peg)(by_case)
    gates.append(_penetration_gate(rows))
    lines = [
        f"# Contact tasks: {'wiping' if task == 'wipe' else 'peg in a hole'}",
        "",
        "What was run and how it is judged: [contact tasks](../contact-tasks.md). "
        f"`vla-ros contact {task}`; every run is in [contact_{task}.csv](contact_{task}.csv).",
        "",
        *table,
        "",
        "| gate | result | met |",
        "|---|---|---|",
        *(f"| {name} | {result} | {'yes' if met else '**no**'} |" for name, result, met in gates),
        "",
        f"![results](contact_{task}.svg)",
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    (folder / f"contact_{task}.md").write_text(text, encoding="utf-8")
    _plot(task, by_case, folder / f"contact_{task}.svg")
    return all(met for _, _, met in gates), text


Gate = tuple[str, str, bool]


def _wipe(by_case: dict[str, list[Row]]) -> tuple[list[str], list[Gate]]:
    lines = [
        "Force along the true normal; deviations from 5 N. Means over the runs, but *worst*, "
        "*max* and penetration: of all runs.",
        "",
        "| case | runs | windows of 100 ms | off by more than 0.5 N | worst window [N] | "
        "mean [N] | RMS [N] | p95 [N] | max [N] | no contact [ms] | coverage (lowest) | "
        "lost messages | first touch, 1 ms [N] | penetration [µm] |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    gates: list[Gate] = []
    for case, rows in by_case.items():
        off, windows = _sum(rows, "windows_off"), _sum(rows, "windows")
        lost = 100 * _sum(rows, "lost") / max(1, _sum(rows, "targets"))
        lines.append(
            f"| `{case}` | {len(rows)} | {windows:.0f} | {off:.0f} | "
            f"{_max(rows, 'worst_window_n'):.2f} | {_mean(rows, 'mean_n'):.3f} | "
            f"{_mean(rows, 'rms_n'):.3f} | {_mean(rows, 'p95_n'):.2f} | "
            f"{_max(rows, 'max_n'):.1f} | {_sum(rows, 'lost_contact_ms'):.0f} | "
            f"{100 * _mean(rows, 'coverage'):.1f} % ({100 * _min(rows, 'coverage'):.1f} %) | "
            f"{lost:.0f} % | {_max(rows, 'peak_impact_n'):.0f} | "
            f"{_max(rows, 'penetration_um'):.1f} |"
        )
        if case in WIPE_GATED:
            result = f"{off:.0f} of {windows:.0f} off, worst {_max(rows, 'worst_window_n'):.2f} N"
            gates.append((f"`{case}`: every window within 0.5 N of 5 N", result, off == 0))
    return lines, gates


def _peg(by_case: dict[str, list[Row]]) -> tuple[list[str], list[Gate]]:
    lines = [
        "Times of the successes. Forces: largest mean over 10 ms of any run.",
        "",
        "| controller | inserted | 95 % Wilson interval | median time [s] | p95 time [s] | "
        "axial [N] | across [N] | penetration [µm] | failures |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rates: dict[str, float] = {}
    for case in ("search", "no_search", "stiff"):
        rows = by_case.get(case, [])
        if not rows:
            continue
        good = [row for row in rows if row["success"] == "True"]
        rates[case] = 100 * len(good) / len(rows)
        low, high = wilson_interval(len(good), len(rows))
        times = _column(good, "time_s")
        lines.append(
            f"| `{case}` | {len(good)} of {len(rows)} | {100 * low:.1f} to {100 * high:.1f} % | "
            f"{_text(float(np.median(times)))} | {_text(float(np.percentile(times, 95)))} | "
            f"{_max(rows, 'axial_n'):.1f} | {_max(rows, 'lateral_n'):.1f} | "
            f"{_max(rows, 'penetration_um'):.1f} | {_reasons(rows)} |"
        )
    return lines, _peg_gates(rates)


def _peg_gates(rates: dict[str, float]) -> list[Gate]:
    nan = math.nan
    ours, blind, stiff = (rates.get(k, nan) for k in ("search", "no_search", "stiff"))
    return [
        ("`search` at least 90 of 100", f"{ours:.0f} %", ours >= 90),
        ("`no_search` at most 30 of 100", f"{blind:.0f} %", blind <= 30),
        ("`search` 30 points above `stiff`", f"{ours - stiff:+.0f} points", ours - stiff >= 30),
    ]


def _penetration_gate(rows: Sequence[Row]) -> Gate:
    deepest = _max(rows, "penetration_um")
    return "penetration below 50 µm in every run", f"{deepest:.1f} µm", deepest < MAX_PENETRATION_UM


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _reasons(rows: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        if row["success"] != "True":
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.items())) or "none"


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows] or [math.nan]


def _max(rows: Sequence[Row], name: str) -> float:
    return max(_column(rows, name))


def _min(rows: Sequence[Row], name: str) -> float:
    return min(_column(rows, name))


def _sum(rows: Sequence[Row], name: str) -> float:
    return sum(_column(rows, name))


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean(_column(rows, name)))


def _plot(task: str, by_case: dict[str, list[Row]], path: Path) -> None:
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    axes = figure.subplots()
    if task == "wipe":
        _plot_windows(axes, by_case)
    else:
        _plot_times(axes, by_case)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=_GREY, alpha=0.2, lw=0.6)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vla_ros"}):
        FigureCanvasSVG(figure)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _plot_windows(axes: Axes, by_case: dict[str, list[Row]]) -> None:
    for i, (case, rows) in enumerate(by_case.items()):
        colour = _BLUE if case in WIPE_GATED else _ORANGE
        x = i + np.linspace(-0.3, 0.3, len(rows))
        axes.plot(x, _column(rows, "worst_window_n"), ".", color=colour)
    axes.axhline(0.5, color=_GREY, ls="--", lw=1.0)
    axes.set_xticks(range(len(by_case)), list(by_case))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("worst 100 ms window,\ndeviation from 5 N [N]")


def _plot_times(axes: Axes, by_case: dict[str, list[Row]]) -> None:
    for i, case in enumerate(("search", "no_search", "stiff")):
        rows = by_case.get(case, [])
        for success, colour in (("True", _BLUE), ("False", _ORANGE)):
            chosen = [row for row in rows if row["success"] == success]
            if chosen:
                errors = _column(chosen, "error_mm")
                axes.plot(np.array(errors) + 3.5 * i, _column(chosen, "time_s"), ".", color=colour)
    axes.set_xticks(
        [3.5 * i + e for i in range(3) for e in range(4)],
        [str(e) for _ in range(3) for e in range(4)],
    )
    for i, case in enumerate(("search", "no_search", "stiff")):
        axes.annotate(case, (3.5 * i + 1.5, 1.02), xycoords=("data", "axes fraction"), ha="center")
    axes.set_xlabel("position error of the believed hole [mm]; blue: inserted, orange: not")
    axes.set_ylabel("time of success\nor of giving up [s]")
