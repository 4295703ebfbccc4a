# SPDX-License-Identifier: Apache-2.0
"""What a plan aims at, as tables: ratios of means, and claims that something is not worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_ros.experiments.plan import BEST, NotWorse, Plan, Ratio
from vla_ros.experiments.run import Row
from vla_ros.report.statistics import paired_difference, ratio_of_means

if TYPE_CHECKING:
    from vla_ros.experiments.report import Entry

MET, OPEN, MISSED = "met", "not shown", "not met"


def ratio_table(plan: Plan, entries: Sequence[Entry]) -> list[str]:
    """Return the lines of the table of ratios; empty without any."""
    lines = []
    measures = list(dict.fromkeys(r.measure or plan.metric for r in plan.ratios))
    for ratio in plan.ratios:
        of = find(plan, entries, ratio.cell, ratio.arm)
        over = find(plan, entries, ratio.over_cell, ratio.over_arm)
        if of is None or over is None:
            continue
        measure = ratio.measure or plan.metric
        a, b = _by_seed(of.rows, measure), _by_seed(over.rows, measure)
        if not a or not b:
            continue
        found = ratio_of_means(a, b)
        value = f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
        what = ratio.what if ratio.over_arm != BEST else f"{ratio.what} ({over.arm.name})"
        if len(measures) > 1:
            what = f"{what}: `{measure}`"
        lines.append(f"| {what} | {value} | {_aim(ratio)} |")
    if not lines:
        return []
    title = f"## Ratios of mean {measures[0]}" if len(measures) == 1 else "## Ratios of means"
    return [title, "", "| what | ratio | aimed at |", "|---|---|---|", *lines, ""]


def not_worse_table(plan: Plan, entries: Sequence[Entry]) -> list[str]:
    """Return the lines of the table of claims about success; empty without any.

    A claim is met if even the lower end of the 95 % interval of the paired difference is within the
    margin, and not shown if only the difference itself is.
    """
    lines = []
    for claim in plan.not_worse:
        of = find(plan, entries, claim.cell, claim.arm)
        over = find(plan, entries, claim.over_cell, claim.over_arm)
        if of is None or over is None:
            continue
        a, b = _by_seed(of.rows, "success"), _by_seed(over.rows, "success")
        seeds = sorted(a.keys() & b.keys())
        if not seeds:
            continue
        d = paired_difference([a[s] for s in seeds], [b[s] for s in seeds])
        value = f"{100 * d.mean:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
        verdict = _verdict(claim, d.mean, d.low)
        lines.append(
            f"| {claim.what} | {over.arm.name} | {len(seeds)} | {value} | "
            f"at least {-claim.margin_points:+g}: {verdict} |"
        )
    if not lines:
        return []
    head = "| what | against | seeds | difference of success [points] | aimed at |"
    return ["## Not worse", "", head, "|---|---|---|---|---|", *lines, ""]


def find(plan: Plan, entries: Sequence[Entry], cell: str, arm: str) -> Entry | None:
    """Return the entry of an arm in a cell; of ``best`` the baseline with the best metric."""
    there = [e for e in entries if e.cell.name == cell]
    if arm != BEST:
        return next((e for e in there if e.arm.name == arm), None)
    sign = 1.0 if plan.larger_is_better else -1.0
    baselines = [e for e in there if e.arm.is_baseline and not e.arm.is_ours]
    return max(baselines, key=lambda e: sign * e.mean, default=None)


def _by_seed(rows: Sequence[Row], measure: str) -> dict[int, float]:
    values = {int(r["seed"]): float(r.get(measure, "nan")) for r in rows}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _aim(ratio: Ratio) -> str:
    if ratio.at_least is not None:
        return f"at least {ratio.at_least:g}"
    return "" if ratio.at_most is None else f"at most {ratio.at_most:g}"


def _verdict(claim: NotWorse, mean: float, low: float) -> str:
    share = -0.01 * claim.margin_points
    if low >= share:
        return MET
    return OPEN if mean >= share else MISSED
