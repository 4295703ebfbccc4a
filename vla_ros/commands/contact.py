# SPDX-License-Identifier: Apache-2.0
"""``vla-ros contact``: wiping with a force, and a peg in a hole, in virtual time."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting

Cell = tuple[str, str, int]  # task, case (surface and variant, or controller), seed
Row = dict[str, str]

WIPE_CASES = ("flat", "tilted", "curved", "flat/no_integral", "flat/friction_model")
PEG_CASES = ("search", "no_search", "stiff")
_BATCH = 5


@dataclass(frozen=True, kw_only=True)
class ContactOptions:
    """What to run."""

    first_seed: int = setting(0, "first seed", ge=0, le=10**9)
    seeds: int = setting(0, "number of seeds; 0: 20 of wiping, 100 of the peg", ge=0, le=100000)
    cases: str = setting("", "only these cases, comma separated")
    jobs: int = setting(1, "processes", ge=1, le=256)
    out: str = setting("docs/results", "folder of contact_<task>.csv, .md and .svg")
    images: str = setting("", "folder for pictures of the task; empty: none")

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("task", choices=("wipe", "peg"), help="which contact task")
    add_options(parser.add_argument_group("what to run"), ContactOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run what the CSV file does not have yet and report all of it; 0 if every gate is met."""
    options = read_options(namespace, ContactOptions)
    folder = Path(options.out)
    path = folder / f"contact_{namespace.task}.csv"
    rows = _read(path)
    done = {(row["case"], int(row["seed"])) for row in rows}
    cells = [c for c in _cells(namespace.task, options) if c[1:] not in done]
    if done:
        say(f"{len(done)} runs are in {path} already, {len(cells)} to go")
    for batch in _run_all(cells, options.jobs):
        _append(path, batch)
    rows = sorted(_read(path), key=lambda row: (row["case"], int(row["seed"])))
    # Imported here: plotting is not needed to run.
    from vla_ros.report.contact import write_report

    met, text = write_report(namespace.task, rows, folder)
    say(text)
    if options.images:
        from vla_ros.sim.contact.pictures import write_pictures

        write_pictures(namespace.task, Path(options.images))
    return 0 if met else 1


def run_cells(cells: Sequence[Cell]) -> list[Row]:
    """Run some cells in this process; all of one case."""
    # Imported here: the parent needs no MuJoCo.
    from vla_ros.sim.contact.cases import run_case

    rows = []
    for seed, result in run_case(cells[0][0], cells[0][1], [seed for _, _, seed in cells]):
        values = {k: _text(v) for k, v in dataclasses.asdict(result).items() if k != "seed"}
        rows.append({"case": cells[0][1], "seed": str(seed)} | values)
    return rows


def _cells(task: str, options: ContactOptions) -> Iterator[Cell]:
    known = WIPE_CASES if task == "wipe" else PEG_CASES
    chosen = [c for c in known if not options.cases or c in options.cases.split(",")]
    seeds = options.seeds or (20 if task == "wipe" else 100)
    for case in chosen:
        for seed in range(options.first_seed, options.first_seed + seeds):
            yield task, case, seed


def _run_all(cells: Sequence[Cell], jobs: int) -> Iterator[list[Row]]:
    began, done = time.monotonic(), 0
    batches: list[list[Cell]] = []
    for cell in cells:
        if batches and len(batches[-1]) < _BATCH and batches[-1][0][1] == cell[1]:
            batches[-1].append(cell)
        else:
            batches.append([cell])
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for rows in pool.map(run_cells, batches):
            done += len(rows)
            rest_s = (time.monotonic() - began) / done * (len(cells) - done)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{done}/{len(cells)} runs, {rest_s:.0f} s to go   ")
                sys.stderr.flush()
            yield rows


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows at once, so that a run that is cut short goes on where it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
