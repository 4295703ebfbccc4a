# SPDX-License-Identifier: Apache-2.0
"""``vla-ros lockstep``: policy quality in virtual time, without ROS, faster than real time."""

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
from vla_ros.errors import ConfigError
from vla_ros.sim.tasks import INSTRUCTIONS, instruction_for_seed

Cell = tuple[float, int, str]  # slow latency [ms], seed, instruction


@dataclass(frozen=True, kw_only=True)
class LockstepOptions:
    """What to run."""

    first_seed: int = setting(0, "first seed", ge=0, le=10**9)
    seeds: int = setting(100, "number of seeds", ge=1, le=100000)
    slow_latency_ms: str = setting("0,500", "slow latencies to try [ms], comma separated")
    all_instructions: bool = setting(False, "every instruction for every seed, not one per seed")
    jobs: int = setting(2, "processes", ge=1, le=256)
    threshold: float = setting(0.95, "success rate each latency must reach", ge=0.0, le=1.0)
    csv: str = setting("", "file for one line per episode")

    def __post_init__(self) -> None:
        check_fields(self)
        self.latencies()

    def latencies(self) -> list[float]:
        """Return the latencies [ms]."""
        try:
            return [float(part) for part in self.slow_latency_ms.split(",")]
        except ValueError as error:
            raise ConfigError(
                f"slow_latency_ms must be numbers, got {self.slow_latency_ms!r}"
            ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to run"), LockstepOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run all cells; 0 if every latency reaches the threshold."""
    options = read_options(namespace, LockstepOptions)
    cells = list(_cells(options))
    began = time.monotonic()
    # spawn: a forked child would share the parent's OpenGL state.
    context = get_context("spawn")
    chunk = max(1, min(25, len(cells) // (4 * options.jobs)))
    batches = [cells[i : i + chunk] for i in range(0, len(cells), chunk)]
    rows: list[dict[str, object]] = []
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for batch in pool.map(run_cells, batches):
            rows += batch
            _show_progress(len(rows), len(cells), began)
    if options.csv:
        _write_csv(Path(options.csv), rows)
    return 0 if _report(options, rows, time.monotonic() - began) else 1


def run_cells(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """Run some episodes in this process."""
    # Imported here: the parent needs neither MuJoCo nor OpenGL.
    from vla_ros.sim.lockstep import LockstepConfig, LockstepRunner

    rows: list[dict[str, object]] = []
    runner: LockstepRunner | None = None
    latency: float | None = None
    for slow_latency_ms, seed, instruction in cells:
        if runner is None or slow_latency_ms != latency:
            if runner is not None:
                runner.close()
            runner = LockstepRunner(LockstepConfig(slow_latency_ms=slow_latency_ms))
            latency = slow_latency_ms
        result = runner.run(seed, instruction)
        rows.append({"slow_latency_ms": slow_latency_ms} | dataclasses.asdict(result))
    if runner is not None:
        runner.close()
    return rows


def _cells(options: LockstepOptions) -> Iterator[Cell]:
    for latency in options.latencies():
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            instructions = (
                INSTRUCTIONS if options.all_instructions else (instruction_for_seed(seed),)
            )
            for instruction in instructions:
                yield latency, seed, instruction


def _report(options: LockstepOptions, rows: list[dict[str, object]], wall_s: float) -> bool:
    simulated_s = sum(float(str(row["duration_s"])) for row in rows)
    say(
        f"{len(rows)} episodes, {simulated_s:.0f} s simulated in {wall_s:.0f} s "
        f"({simulated_s / wall_s:.1f} times real time)"
    )
    enough = True
    for latency in options.latencies():
        cell = [row for row in rows if row["slow_latency_ms"] == latency]
        successes = sum(bool(row["success"]) for row in cell)
        late = sum(int(str(row["rows_after_expiry"])) for row in cell)
        error = max(float(str(row["age_error_ms_max"])) for row in cell)
        say(
            f"slow latency {latency:6.0f} ms: {successes} of {len(cell)} "
            f"({100 * successes / len(cell):.1f} %), rows after expiry {late}, "
            f"age error {error:.2f} ms at most"
        )
        for row in cell:
            if not row["success"]:
                say(f"  failed: seed {row['seed']} {row['instruction']!r}: {row['reason']}")
        enough = enough and successes >= options.threshold * len(cell)
    return enough


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _show_progress(done: int, total: int, began: float) -> None:
    if not sys.stderr.isatty():
        return
    rest_s = (time.monotonic() - began) / done * (total - done)
    sys.stderr.write(f"\r{done}/{total} episodes, {rest_s:.0f} s to go   ")
    sys.stderr.flush()
