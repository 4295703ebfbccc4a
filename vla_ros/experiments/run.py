# SPDX-License-Identifier: Apache-2.0
"""Runs what a plan still lacks, in several processes, into a file that grows line by line."""

from __future__ import annotations

import csv
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vla_ros.experiments.plan import LEARNED, SURROGATE, Arm, Cell, Plan, Values, build

Row = dict[str, str]
KEYS = ("cell", "arm", "choice", "seed")
_BATCH = 10


@dataclass(frozen=True)
class Job:
    """Some seeds of one cell, arm and setting.

    Attributes:
        rig: what runs an episode.
        models: folder below which the plan's policies lie.
    """

    cell: str
    arm: str
    choice: int
    seeds: tuple[int, ...]
    values: dict[str, Any]
    rig: str = SURROGATE
    models: str = ""


class Progress:
    """A line on a terminal: how far, how long to go."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = time.monotonic()

    def add(self, n: int) -> None:
        """Count some runs."""
        self._done += n
        if not sys.stderr.isatty():
            return
        share = self._done / max(self._total, 1)
        left_s = (time.monotonic() - self._began) / max(self._done, 1) * (self._total - self._done)
        bar = "#" * round(30 * share)
        sys.stderr.write(f"\r[{bar:<30}] {self._done}/{self._total}, {left_s / 60:.0f} min to go  ")
        if self._done >= self._total:
            sys.stderr.write("\n")
        sys.stderr.flush()


class Results:
    """All runs so far, kept in a CSV file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        self._done = {self._key(row) for row in self.rows}

    @staticmethod
    def _key(row: Row) -> tuple[str, ...]:
        return tuple(row[k] for k in KEYS)

    def has(self, cell: str, arm: str, choice: int, seed: int) -> bool:
        """Whether a run is there already."""
        return (cell, arm, str(choice), str(seed)) in self._done

    def add(self, rows: Sequence[Row]) -> None:
        """Keep some runs, at once on disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        names = self._widen(list(rows[0]))
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, fieldnames=names, lineterminator="\n").writerows(rows)
        self.rows.extend(rows)
        self._done |= {self._key(row) for row in rows}

    def _widen(self, names: list[str]) -> list[str]:
        """Return the columns of the file, which has all of ``names`` afterwards."""
        known: list[str] = []
        before: list[Row] = []
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                before, known = list(reader), list(reader.fieldnames or ())
        wanted = known + [name for name in names if name not in known]
        if wanted != known:  # a new file, or one of before there was as much to write down
            part = self._path.with_suffix(".part")
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=wanted, lineterminator="\n")
                writer.writeheader()
                writer.writerows(before)
            part.replace(self._path)
        return wanted

    def forget(self, is_void: Callable[[Row], bool]) -> int:
        """Count some runs for nothing, as those of other weights; return how many.

        They stay in the file, but what was run anew comes after them.
        """
        kept = [row for row in self.rows if not is_void(row)]
        forgotten = len(self.rows) - len(kept)
        self.rows, self._done = kept, {self._key(row) for row in kept}
        return forgotten

    def of(self, cell: str, arm: str, choice: int, seeds: range) -> list[Row]:
        """Return the runs of some seeds, in the order of the seeds."""
        found = {
            int(r["seed"]): r
            for r in self.rows
            if r["cell"] == cell and r["arm"] == arm and r["choice"] == str(choice)
        }
        return [found[s] for s in seeds if s in found]


def run_plan(
    plan: Plan, results: Results, jobs: int, cells: Sequence[Cell], models: str = ""
) -> dict[str, int]:
    """Run what is missing; return the setting that each ``cell/arm`` has chosen."""
    choosing = list(_batches(plan, results, cells, None, models))
    _run_jobs(choosing, results, jobs, "choosing settings")
    chosen = {
        f"{cell.name}/{arm.name}": choose(plan, results, cell, arm)
        for cell in cells
        for arm in plan.arms_of(cell)
    }
    _run_jobs(list(_batches(plan, results, cells, chosen, models)), results, jobs, "comparing")
    return chosen


def choose(plan: Plan, results: Results, cell: Cell, arm: Arm) -> int:
    """Return the number of the arm's best setting in a cell, by the choosing seeds alone."""
    if len(arm.choices) == 1:
        return 0
    sign = 1.0 if plan.larger_is_better else -1.0
    scores = []
    for choice in range(len(arm.choices)):
        rows = results.of(cell.name, arm.name, choice, plan.choice_seeds())
        values = [float(row[plan.metric]) for row in rows]
        scores.append(sign * sum(values) / max(len(values), 1))
    return scores.index(max(scores))


def _batches(
    plan: Plan,
    results: Results,
    cells: Sequence[Cell],
    chosen: dict[str, int] | None,
    models: str,
) -> Iterator[Job]:
    for cell in cells:
        for arm in plan.arms_of(cell):
            if chosen is None:
                if len(arm.choices) == 1:
                    continue
                choices, seeds = list(range(len(arm.choices))), plan.choice_seeds()
            else:
                choices, seeds = [chosen[f"{cell.name}/{arm.name}"]], plan.seeds(cell)
            for choice in choices:
                missing = [s for s in seeds if not results.has(cell.name, arm.name, choice, s)]
                for i in range(0, len(missing), _BATCH):
                    yield Job(
                        cell.name,
                        arm.name,
                        choice,
                        tuple(missing[i : i + _BATCH]),
                        plan.case_values(cell, arm, choice),
                        plan.rig,
                        models,
                    )


def _run_jobs(todo: Sequence[Job], results: Results, jobs: int, what: str) -> None:
    if not todo:
        return
    sys.stderr.write(f"{what}: {sum(len(j.seeds) for j in todo)} episodes\n")
    progress = Progress(sum(len(j.seeds) for j in todo))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for rows in pool.map(run_job, todo):
            results.add(rows)
            progress.add(len(rows))


_runner: Any = None


def run_job(job: Job) -> list[Row]:
    """Run the seeds of a job in this process."""
    run = _run_learned if job.rig == LEARNED else _run_surrogate
    rows = []
    for seed, result in run(job):
        keys = {"cell": job.cell, "arm": job.arm, "choice": str(job.choice), "seed": str(seed)}
        rows.append(keys | {k: _text(v) for k, v in result.items() if k != "seed"})
    return rows


def with_settings(case: Any, settings: Values) -> Any:
    """Return a case whose strategy has these settings, over its own defaults."""
    from vla_ros.chunking.strategies.registry import default_settings

    defaults = default_settings(case.strategy)
    merged = dataclasses.asdict(defaults) | dict(settings)
    return dataclasses.replace(case, settings=build(type(defaults), merged))


def _run_learned(job: Job) -> Iterator[tuple[int, dict[str, Any]]]:
    # Imported here: the parent needs neither MuJoCo nor ONNX Runtime.
    from vla_ros.experiments.learned_case import LearnedCase
    from vla_ros.experiments.learned_run import run_case

    values = dict(job.values)
    settings = values.pop("settings", {})
    case = with_settings(build(LearnedCase, values), settings)
    for seed in job.seeds:
        yield seed, run_case(case, Path(job.models), seed)


def _run_surrogate(job: Job) -> Iterator[tuple[int, dict[str, Any]]]:
    global _runner
    # Imported here: the parent needs no MuJoCo.
    from vla_ros.sim.rig.runner import RigCase, RigRunner

    if _runner is None:
        _runner = RigRunner()
    values = dict(job.values)
    settings = values.pop("settings", {})
    case = build(RigCase, values)
    if settings:
        case = with_settings(case, settings)
    for seed in job.seeds:
        yield seed, dataclasses.asdict(_runner.run(case, seed))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
