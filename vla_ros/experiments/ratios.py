# SPDX-License-Identifier: Apache-2.0
"""The ratios that a plan asks for, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vla_ros.experiments.plan import Plan, Ratio
from vla_ros.experiments.run import Row
from vla_ros.report.statistics import ratio_of_means


def ratio_table(plan: Plan, rows: dict[tuple[str, str], Sequence[Row]]) -> list[str]:
    """Return the lines of the table; ``rows`` are the runs by cell and arm."""
    lines = []
    for ratio in plan.ratios:
        of = _by_seed(rows.get((ratio.cell, ratio.arm), ()), plan.metric)
        over = _by_seed(rows.get((ratio.over_cell, ratio.over_arm), ()), plan.metric)
        if not of or not over:
            continue
        found = ratio_of_means(of, over)
        value = f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
        lines.append(f"| {ratio.what} | {value} | {_aim(ratio)} |")
    if not lines:
        return []
    head = [f"## Ratios of mean {plan.metric}", "", "| what | ratio | aimed at |", "|---|---|---|"]
    return [*head, *lines, ""]


def _by_seed(rows: Sequence[Row], metric: str) -> dict[int, float]:
    values = {int(r["seed"]): float(r[metric]) for r in rows}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _aim(ratio: Ratio) -> str:
    if ratio.at_least is not None:
        return f"at least {ratio.at_least:g}"
    return "" if ratio.at_most is None else f"at most {ratio.at_most:g}"
