# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy train``: both halves together, from demonstrations to a checkpoint."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.progress import ProgressLine
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.optimizer import OptimizerConfig
from vla_ros.learning.sampling import SamplingConfig
from vla_ros.learning.training_config import TrainingConfig

if TYPE_CHECKING:
    from vla_ros.learning.checkpoint import Checkpoint
    from vla_ros.learning.training import Training

CHECKPOINT_FILE = "checkpoint.npz"
LOG_FILE = "progress.csv"
PLOT_FILE = "loss.svg"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is trained on, where to, and how often it is written down."""

    demos: str = setting("runs/demos", "folder of the demonstrations")
    out: str = setting("runs/train", "folder of checkpoint, losses and their plot")
    stop_after: int = setting(
        0, "stop at this step as if interrupted; 0: go to the end", unit="steps", ge=0, le=10**8
    )
    save_every_s: float = setting(60.0, "time between checkpoints", unit="s", ge=0.0, le=86400.0)
    check_every: int = setting(500, "steps between checks", unit="steps", ge=1, le=10**6)

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to do"), TrainOptions)
    add_options(parser.add_argument_group("training"), TrainingConfig)
    add_options(parser.add_argument_group("model"), ModelConfig, hidden=("vocabulary",))
    add_options(parser.add_argument_group("batches"), SamplingConfig)
    add_options(parser.add_argument_group("optimiser"), OptimizerConfig)


def run(namespace: argparse.Namespace) -> int:
    """Train; go on from the checkpoint in the folder, if there is one."""
    options = read_options(namespace, TrainOptions)
    config = read_options(
        namespace,
        TrainingConfig,
        model=read_options(namespace, ModelConfig),
        sampling=read_options(namespace, SamplingConfig),
        optimizer=read_options(namespace, OptimizerConfig),
    )
    training = _start(config, Path(options.demos), Path(options.out))
    run_to_the_end(training, options, config.steps, _note)
    return 0


class Trains(Protocol):
    """What can be trained step by step."""

    @property
    def step(self) -> int:
        """Steps taken."""

    def run(self, until: int, tell: Callable[[int, dict[str, float]], None]) -> None:
        """Train up to step ``until``."""

    def check(self) -> dict[str, float]:
        """Return what the weights achieve."""

    def checkpoint(self) -> Checkpoint:
        """Return what is needed to go on."""


def run_to_the_end(
    training: Trains, options: TrainOptions, steps: int, note: Callable[[dict[str, float]], str]
) -> None:
    """Train up to the last of ``steps``, writing checkpoints, losses and their plot.

    ``note`` says of a check what is shown beside the progress.
    """
    from vla_ros.learning.checkpoint import save_checkpoint
    from vla_ros.learning.loss_plot import plot_losses

    out = Path(options.out)
    until = min(options.stop_after or steps, steps)
    log = _Log(out / LOG_FILE, training.step)
    began = saved = time.monotonic()
    progress = ProgressLine(until, "steps", training.step)
    while training.step < until:
        here = training.step
        training.run(min(here - here % options.check_every + options.check_every, until), log.add)
        found = training.check()
        log.write(training.step, time.monotonic() - began, found)
        progress.add(training.step - here, f"loss {log.loss:.3f}, {note(found)}")
        now = time.monotonic()
        if now - saved >= options.save_every_s or training.step >= until:
            saved = now
            save_checkpoint(out / CHECKPOINT_FILE, training.checkpoint())
            plot_losses(out / LOG_FILE, out / PLOT_FILE)
    say(f"step {training.step} of {steps}: {out / CHECKPOINT_FILE}, {out / PLOT_FILE}")


def _note(found: dict[str, float]) -> str:
    return f"pick {found['pick_cm']:.1f} cm, place {found['place_cm']:.1f} cm"


def _start(config: TrainingConfig, demos: Path, out: Path) -> Training:
    from vla_ros.learning.checkpoint import load_checkpoint
    from vla_ros.learning.dataset import load_dataset
    from vla_ros.learning.training import Training

    data = load_dataset(arrays_of(demos))
    training = Training(config, data)
    say(f"{len(data)} demonstrations, {len(data.arrays['frame_s'])} images of each camera")
    if (out / CHECKPOINT_FILE).is_file():
        training.restore(load_checkpoint(out / CHECKPOINT_FILE))
        say(f"going on from step {training.step}")
    return training


def arrays_of(demos: Path) -> list[Path]:
    """Return the arrays of all demonstrations, made from their bags where they are missing."""
    from vla_ros.learning.dataset import CACHE_FOLDER, cache_demonstration

    bags = [path.parent for path in demos.glob("episode_*/metadata.yaml")]
    bags = sorted(
        (bag for bag in bags if not bag.name.endswith(".partial")),
        key=lambda bag: int(bag.name.removeprefix("episode_")),
    )
    if not bags:
        raise ConfigError(f"no demonstrations in {demos}; make some: vla-ros policy demos")
    missing = [b for b in bags if not (demos / CACHE_FOLDER / f"{b.name}.npz").is_file()]
    if missing:
        progress = ProgressLine(len(missing), "demonstrations read")
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(cache_demonstration, missing):
                progress.add()
    return [demos / CACHE_FOLDER / f"{bag.name}.npz" for bag in bags]


class _Log:
    """Losses, averaged between checks, in a CSV file that grows; later lines than ``step`` go."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._sums: dict[str, float] = {}
        self._n = 0
        self.loss = float("nan")
        kept: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._wall_s = float(kept[-1]["wall_s"]) if kept else 0.0
        self._write(kept, "w")

    def add(self, step: int, losses: dict[str, float]) -> None:
        """Take the losses of one step."""
        self._n += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def write(self, step: int, wall_s: float, checked: dict[str, float]) -> None:
        """Write the averages since the last call, and what was found in a check."""
        means = {name: total / max(self._n, 1) for name, total in self._sums.items()}
        self.loss, self._sums, self._n = means["loss"], {}, 0
        row = {"step": step, "wall_s": self._wall_s + wall_s, **means}
        row |= {f"check_{name}": value for name, value in checked.items()}
        self._write([{k: f"{v:.6g}" for k, v in row.items()}], "a")

    def _write(self, rows: list[dict[str, str]], mode: str) -> None:
        is_new = mode == "w" or self._path.stat().st_size == 0
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            if not rows:
                return
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)
