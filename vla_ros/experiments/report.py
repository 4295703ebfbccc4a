# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of an experiment, generated from its runs; nothing in them is typed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.experiments.plan import Arm, Cell, Plan
from vla_ros.experiments.ratios import not_worse_table, ratio_table
from vla_ros.experiments.run import Results, Row
from vla_ros.report.statistics import (
    PairedDifference,
    bootstrap_interval,
    holm,
    paired_difference,
    wilson_interval,
)

# Also in the table, as means, where they were measured.
MEASURES = (
    "end_s",
    "grasp_error_m",
    "track_rmse_m",
    "seam_m_p95",
    "chunk_step_m_p95",
    "seam_ratio",
    "ref_jump_m_s",
    "jerk_rms_m_s3",
    "age_p50_s",
    "age_max_s",
    "idle_share",
    "reaction_s",
    "grasped_wrong",
    "overrun_m",
    "recovery_s",
    "stale_travel_m",
    "force_rmse_n",
    "force_peak_n",
    "contact_share",
    "inferences",
    "slow_inferences",
    "rows_after_expiry",
    "chunk_hz",
    "cpu_ms_per_s",
    "graph_ms_per_s",
    "chunks_per_cpu_s",
    "chunks_per_graph_s",
    "slow_graph_ms",
    "fast_graph_ms",
    "whole_graph_ms",
    "failed_calls",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One arm in one cell."""

    cell: Cell
    arm: Arm
    choice: int
    rows: Sequence[Row]
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One of our arms against the best baseline of its cell."""

    cell: Cell
    arm: Arm
    best: Entry
    difference: PairedDifference
    adjusted_p: float


def summarise(
    plan: Plan, results: Results, chosen: dict[str, int], cells: Sequence[Cell]
) -> list[Entry]:
    """Return one entry for each arm of each cell that has runs."""
    entries = []
    for cell in cells:
        for arm in plan.arms_of(cell):
            choice = chosen[f"{cell.name}/{arm.name}"]
            rows = results.of(cell.name, arm.name, choice, plan.seeds(cell))
            if not rows:
                continue
            values = _values(rows, plan.metric)
            if plan.metric == "success":
                low, high = wilson_interval(int(sum(values)), len(values))
                mean = sum(values) / len(values)
            else:
                interval = bootstrap_interval(values)
                mean, low, high = interval.mean, interval.low, interval.high
            entries.append(
                Entry(cell=cell, arm=arm, choice=choice, rows=rows, mean=mean, low=low, high=high)
            )
    return entries


def compare(plan: Plan, entries: Sequence[Entry]) -> list[Comparison]:
    """Compare each of our arms with the best baseline of the cell, on the same seeds."""
    found: list[tuple[Entry, Entry, PairedDifference]] = []
    sign = 1.0 if plan.larger_is_better else -1.0
    for cell in plan.cells:
        there = [e for e in entries if e.cell == cell]
        baselines = [e for e in there if e.arm.is_baseline and not e.arm.is_ours]
        if not baselines:
            continue
        best = max(baselines, key=lambda e: sign * e.mean)
        found += [(e, best, _paired(plan, e, best)) for e in there if e.arm.is_ours]
    adjusted = holm([d.p_value for _, _, d in found])
    return [
        Comparison(cell=o.cell, arm=o.arm, best=b, difference=d, adjusted_p=p)
        for (o, b, d), p in zip(found, adjusted, strict=True)
    ]


def write_report(
    plan: Plan,
    results: Results,
    chosen: dict[str, int],
    cells: Sequence[Cell],
    folder: Path,
    left_out: Mapping[str, str] | None = None,
) -> str:
    """Write ``<name>.csv``, ``.md`` and ``.svg`` and return the text of the table.

    ``left_out``: arms that were not run, and why.
    """
    entries = summarise(plan, results, chosen, cells)
    comparisons = compare(plan, entries)
    folder.mkdir(parents=True, exist_ok=True)
    stem = plan.name.replace("-", "_")
    _write_csv(plan, entries, folder / f"{stem}.csv")
    text = _text(plan, stem, entries, comparisons, left_out or {})
    (folder / f"{stem}.md").write_text(text, encoding="utf-8")
    # Imported here: plotting is not needed for the table.
    from vla_ros.experiments.plot import plot_entries

    plot_entries(plan, entries, folder / f"{stem}.svg")
    return text


def _paired(plan: Plan, ours: Entry, best: Entry) -> PairedDifference:
    by_seed = {r["seed"]: float(r[plan.metric]) for r in best.rows}
    pairs = [(float(r[plan.metric]), by_seed[r["seed"]]) for r in ours.rows if r["seed"] in by_seed]
    pairs = [p for p in pairs if all(map(math.isfinite, p))]
    a, b = zip(*pairs, strict=True) if pairs else ((math.nan,), (math.nan,))
    return paired_difference(a, b)


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [v for v in (float(row.get(name, "nan")) for row in rows) if math.isfinite(v)]


def _write_csv(plan: Plan, entries: Sequence[Entry], path: Path) -> None:
    names = ("strategy", "cell", "x", "n", "seeds", "setting", "metric", "mean", "low", "high")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        measures = [m for m in MEASURES if any(m in row for e in entries for row in e.rows)]
        writer.writerow([*names, *measures])
        for e in entries:
            seeds = [int(r["seed"]) for r in e.rows]
            measured = [_mean(_values(e.rows, m)) for m in measures]
            writer.writerow(
                [
                    e.arm.name,
                    e.cell.name,
                    f"{e.cell.x:g}",
                    len(e.rows),
                    f"{min(seeds)}..{max(seeds)}",
                    json.dumps(dict(e.arm.choices[e.choice]), sort_keys=True),
                    plan.metric,
                    *(f"{v:.5g}" for v in (e.mean, e.low, e.high)),
                    *measured,
                ]
            )


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.5g}" if len(values) else ""


def _text(
    plan: Plan,
    stem: str,
    entries: Sequence[Entry],
    comparisons: Sequence[Comparison],
    left_out: Mapping[str, str],
) -> str:
    lines = [
        f"# Experiment: {plan.name}",
        "",
        plan.question.strip(),
        "",
        f"`vla-ros experiment {plan.name}`; the plan, written before the runs, is "
        f"[{stem}.yaml](../../config/experiments/{stem}.yaml). All numbers, with the setting that "
        f"each baseline chose, are in [{stem}.csv]({stem}.csv). Intervals: 95 % "
        f"({'Wilson' if plan.metric == 'success' else 'bootstrap over seeds'}).",
        "",
    ]
    if plan.notes:
        lines += [plan.notes.strip(), ""]
    if left_out:
        lines += [*(f"- Left out: {arm}. {why}." for arm, why in left_out.items()), ""]
    for group in dict.fromkeys(c.group for c in plan.cells):
        lines += _table(plan, group, entries)
    if comparisons:
        lines += _comparison_table(plan, comparisons)
    lines += ratio_table(plan, entries)
    lines += not_worse_table(plan, entries)
    return "\n".join([*lines, f"![results]({stem}.svg)", ""])


def _table(plan: Plan, group: str, entries: Sequence[Entry]) -> list[str]:
    there = [e for e in entries if e.cell.group == group]
    if not there:
        return []
    cells = list(dict.fromkeys(e.cell.name for e in there))
    by_name = {c.name: c for c in plan.cells}
    head = " | ".join(f"{by_name[c].x:g}" for c in cells)
    lines = [f"## {group}" if group else "## Results", ""]
    lines += [f"| {plan.axis} | {head} |", "|---|" + "---|" * len(cells)]
    found = {(e.arm.name, e.cell.name): e for e in there}
    sign = 1.0 if plan.larger_is_better else -1.0
    best = {c: max(sign * e.mean for e in there if e.cell.name == c) for c in cells}
    for arm in dict.fromkeys(e.arm.name for e in there):
        texts = []
        for c in cells:
            e = found.get((arm, c))
            if e is None:
                texts.append("")
                continue
            value = _format(plan, e)
            texts.append(f"**{value}**" if sign * e.mean == best[c] else value)
        lines.append(f"| {arm} | " + " | ".join(texts) + " |")
    counts = sorted({len(e.rows) for e in there})
    lines += ["", f"n = {', '.join(map(str, counts))} seeds a cell.", ""]
    for measure in plan.also:
        lines += _measure_table(plan, measure, there, cells)
    return lines


def _measure_table(
    plan: Plan, measure: str, entries: Sequence[Entry], cells: Sequence[str]
) -> list[str]:
    by_name = {c.name: c for c in plan.cells}
    head = " | ".join(f"{by_name[c].x:g}" for c in cells)
    lines = [f"`{measure}`, mean:", "", f"| {plan.axis} | {head} |", "|---|" + "---|" * len(cells)]
    found = {(e.arm.name, e.cell.name): e for e in entries}
    for arm in dict.fromkeys(e.arm.name for e in entries):
        texts = []
        for cell in cells:
            e = found.get((arm, cell))
            values = _values(e.rows, measure) if e is not None else []
            texts.append(f"{np.mean(values):.3g}" if values else "")
        lines.append(f"| {arm} | " + " | ".join(texts) + " |")
    return [*lines, ""]


def _format(plan: Plan, e: Entry) -> str:
    if plan.metric == "success":
        return f"{100 * e.mean:.1f} ({100 * e.low:.0f} to {100 * e.high:.0f})"
    return f"{e.mean:.4g} ({e.low:.3g} to {e.high:.3g})"


def _comparison_table(plan: Plan, comparisons: Sequence[Comparison]) -> list[str]:
    scale, unit = (100.0, "points") if plan.metric == "success" else (1.0, plan.metric)
    lines = [
        "## Ours against the best baseline of each cell",
        "",
        "Paired over the same seeds; p by sign flips, Holm-adjusted over all rows of this table.",
        "",
        f"| cell | ours | best baseline | difference [{unit}] | adjusted p |",
        "|---|---|---|---|---|",
    ]
    for c in comparisons:
        d = c.difference
        text = f"{scale * d.mean:+.4g} ({scale * d.low:+.3g} to {scale * d.high:+.3g})"
        best = f"{c.best.arm.name} {_format(plan, c.best).split(' ')[0]}"
        lines.append(f"| {c.cell.name} | {c.arm.name} | {best} | {text} | {c.adjusted_p:.2g} |")
    return [*lines, "", *_verdicts(plan, comparisons), ""]


def _verdicts(plan: Plan, comparisons: Sequence[Comparison]) -> list[str]:
    if plan.metric != "success":
        return []
    lines = []
    for arm in dict.fromkeys(c.arm.name for c in comparisons):
        rows = [c for c in comparisons if c.arm.name == arm]
        worst = min(rows, key=lambda c: c.difference.mean)
        better = sum(c.difference.mean > 0 for c in rows)
        clearly = sum(c.difference.low > 0 and c.adjusted_p < 0.05 for c in rows)
        lines.append(
            f"- {arm}: better in {better} of {len(rows)} cells, clearly (interval and adjusted p) "
            f"in {clearly}; worst in {worst.cell.name}: {100 * worst.difference.mean:+.1f} points."
        )
    cells = {c.cell.name: c.best.mean for c in comparisons}
    open_cells = sum(0.1 <= mean <= 0.9 for mean in cells.values())
    lines.append(
        f"- The best baseline lies between 10 and 90 % in {open_cells} of {len(cells)} cells."
    )
    return lines
