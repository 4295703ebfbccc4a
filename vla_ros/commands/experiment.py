# SPDX-License-Identifier: Apache-2.0
"""``vla-ros experiment``: strategies beside each other, in virtual time, by a plan."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.experiments.plan import Cell, Plan, known_plans, load_plan
from vla_ros.experiments.policy_folders import available

BUFFER = "buffer"  # measured in real time between real processes, not by a plan


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """Where to and how fast; what is run is in the plan."""

    jobs: int = setting(2, "processes", ge=1, le=256)
    cells: str = setting("", "only cells whose names contain this")
    out: str = setting("docs/results", "folder of <experiment>.csv, .md and .svg")
    runs: str = setting("runs/experiments", "folder of every single run, to go on from")
    smoke: int = setting(
        0,
        "only so many seeds, which no experiment uses; the report goes to RUNS/smoke",
        ge=0,
        le=100,
    )
    models: str = setting(
        "models/pick-place", "folder of the split export; those of other arms lie below it"
    )

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("experiment", choices=[*known_plans(), BUFFER], help="what to run")
    parser.add_argument("--plan", action="store_true", help="say what would be run, and stop")
    add_options(parser.add_argument_group("how to run it"), ExperimentOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run what is missing and report all of it."""
    options = read_options(namespace, ExperimentOptions)
    if namespace.experiment == BUFFER:
        return _run_buffer(namespace, options)
    written = load_plan(namespace.experiment)
    runs, out = Path(options.runs), Path(options.out)
    if options.smoke:
        written, runs = written.as_smoke(options.smoke), runs / "smoke"
        out = runs
    found = available(written, Path(options.models))
    plan = found.plan
    for arm, why in found.left_out.items():
        sys.stderr.write(f"left out: {arm}: {why}\n")
    cells = [c for c in plan.cells if options.cells in c.name]
    if not cells:
        raise ConfigError(f"no cell of {plan.name} has {options.cells!r} in its name")
    if namespace.plan:
        say(_describe(written, cells))
        return 0
    if not any(arm.is_ours for arm in plan.arms):
        reasons = "; ".join(sorted(set(found.left_out.values())))
        raise ConfigError(f"nothing of ours can run with {options.models}: {reasons}")
    # Imported here: --help and --plan need none of it.
    from vla_ros.experiments.report import write_report
    from vla_ros.experiments.run import Results, run_plan

    name = plan.name.replace("-", "_")
    results = Results(runs / f"runs_{name}.csv" if options.smoke else runs / f"{name}.csv")
    if forgotten := results.forget(found.is_void):
        sys.stderr.write(f"{forgotten} episodes of other weights do not count\n")
    began = time.monotonic()
    before = len(results.rows)
    chosen = run_plan(plan, results, options.jobs, cells, options.models)
    say(write_report(plan, results, chosen, cells, out, found.left_out))
    say(f"{len(results.rows) - before} episodes in {time.monotonic() - began:.0f} s")
    return 0


def _describe(plan: Plan, cells: list[Cell]) -> str:
    lines = [plan.question.strip(), ""]
    total = 0
    for cell in cells:
        arms = list(plan.arms_of(cell))
        runs = len(arms) * len(plan.seeds(cell))
        runs += sum(len(a.choices) * plan.n_choice for a in arms if len(a.choices) > 1)
        total += runs
        lines.append(f"{cell.name}: {len(arms)} arms, {len(plan.seeds(cell))} seeds, {runs} runs")
    return "\n".join([*lines, "", f"{total} episodes in all"])


def _run_buffer(namespace: argparse.Namespace, options: ExperimentOptions) -> int:
    from vla_ros.bench import buffer_experiment

    if namespace.plan:
        sizes = ", ".join(f"{n} x {size} B" for size, n in buffer_experiment.SIZES)
        say(f"hand-overs between two processes: {sizes}; then a search for torn reads")
        return 0
    buffer_experiment.run(Path(options.out), tell=say)
    return 0
