# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy demos``: demonstrations of the scripted expert, one bag each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.progress import ProgressLine
from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.split import HELD_OUT_GOALS, training_goal, training_seed
from vla_ros.recording.episode import EPISODE_FILE

_BATCH = 4
SUMMARY_FILE = "demos.json"


@dataclass(frozen=True, kw_only=True)
class DemosOptions:
    """How many and where to."""

    demos: int = setting(400, "demonstrations to have in the end", ge=1, le=10**6)
    jobs: int = setting(2, "processes", ge=1, le=256)
    out: str = setting("runs/demos", "folder of the bags; what is there already is kept")

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to demonstrate"), DemosOptions)


def run(namespace: argparse.Namespace) -> int:
    """Demonstrate what is missing."""
    options = read_options(namespace, DemosOptions)
    folder = Path(options.out)
    missing = [n for n in range(options.demos) if not is_complete(folder, n)]
    say(f"{options.demos - len(missing)} of {options.demos} demonstrations are in {folder}")
    began = time.monotonic()
    _demonstrate(folder, missing, options)
    wall_s = time.monotonic() - began
    failed = sum(not succeeded(folder, n) for n in missing)
    say(
        f"{len(missing)} demonstrations in {wall_s:.0f} s, {failed} failed and are not trained "
        f"on; never asked for: {', '.join(repr(g.text) for g in HELD_OUT_GOALS)}"
    )
    return 0


def bag_name(number: int) -> str:
    """Return the name of a demonstration's bag."""
    return f"episode_{number}"


def is_complete(folder: Path, number: int) -> bool:
    """Say whether a demonstration is there with all that belongs to it."""
    from vla_ros.learning.dataset import CACHE_FOLDER

    has_arrays = (folder / CACHE_FOLDER / f"{bag_name(number)}.npz").is_file()
    return has_arrays and (folder / bag_name(number) / "metadata.yaml").is_file()


def succeeded(folder: Path, number: int) -> bool:
    """Say whether a demonstration that is there did what it was asked for."""
    path = folder / bag_name(number) / EPISODE_FILE
    return bool(json.loads(path.read_text(encoding="utf-8"))["outcome"] == "success")


def demonstrate(folder: Path, numbers: Sequence[int]) -> int:
    """Perform and record some demonstrations in this process; return how many."""
    # Imported here: the parent needs neither MuJoCo nor OpenGL.
    import numpy as np

    from vla_ros.learning.dataset import cache_demonstration
    from vla_ros.learning.demo_writer import DemonstrationWriter
    from vla_ros.learning.phrases import say_goal
    from vla_ros.sim.demonstration import Demonstrator

    for number in numbers:
        seed, name = training_seed(number), bag_name(number)
        goal = training_goal(seed)
        for left_over in (folder / name, folder / f"{name}.partial"):
            shutil.rmtree(left_over, ignore_errors=True)
        sentence = say_goal(goal, np.random.default_rng([seed, 12]))
        writer = DemonstrationWriter(folder, name, number, seed, sentence)
        try:
            # A new one each time: what the filters of the control host remember of the episode
            # before would make a demonstration depend on who performs it.
            with closing(Demonstrator()) as demonstrator:
                verdict = demonstrator.perform(seed, goal, writer)
            path = writer.close(verdict.success)
        except BaseException:
            writer.discard()
            raise
        cache_demonstration(path)
    return len(numbers)


def _demonstrate(folder: Path, missing: Sequence[int], options: DemosOptions) -> None:
    progress = ProgressLine(options.demos, "demonstrations", options.demos - len(missing))
    batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
    before_s, began = wall_s_of(folder), time.monotonic()
    write_summary(folder, options, before_s)
    # spawn: a forked child would share the parent's OpenGL state.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(demonstrate, folder, batch) for batch in batches]
        try:
            for future in as_completed(waiting):
                progress.add(future.result())
                # After every batch: who is interrupted by force must not lose what it took.
                write_summary(folder, options, before_s + time.monotonic() - began)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def wall_s_of(folder: Path) -> float:
    """Return how long earlier calls worked on a folder [s]."""
    path = folder / SUMMARY_FILE
    if not path.is_file():
        return 0.0
    return float(json.loads(path.read_text(encoding="utf-8"))["wall_s"])


def write_summary(folder: Path, options: DemosOptions, wall_s: float) -> None:
    """Keep what the folder consists of, counted there, and how long it took."""
    from vla_ros.sim.demonstration import EXPERT, DemonstrationConfig

    there = [n for n in range(options.demos) if is_complete(folder, n)]
    good = [n for n in there if succeeded(folder, n)]
    goals = Counter(training_goal(training_seed(n)).text for n in good)
    config = DemonstrationConfig()
    summary = {
        "demonstrations": len(there),
        "successes": len(good),
        "wall_s": wall_s,
        "processes": options.jobs,
        "first_seed": training_seed(0),
        "last_seed": training_seed(options.demos - 1),
        "goals": dict(sorted(goals.items())),
        "held_out": [goal.text for goal in HELD_OUT_GOALS],
        "camera_hz": config.camera_hz,
        "chunk_hz": config.chunk_hz,
        "disturbance": dataclasses.asdict(config.disturbance),
        "expert": dataclasses.asdict(EXPERT),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SUMMARY_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    temporary.replace(path)
