# SPDX-License-Identifier: Apache-2.0
"""The model card: what a policy was made of and what it achieves, written from files alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import load_checkpoint
from vla_ros.learning.evaluation import CELLS, chance, summarise, to_markdown
from vla_ros.learning.split import FIRST_TRAINING_SEED, HELD_OUT_GOALS
from vla_ros.policies.manifest.files import PolicyFolder, open_policy
from vla_ros.policies.manifest.schema import LatentAgeDetails, Manifest, Role

_HEAD = """# {name}

Puts a named cube into a named bowl on the simulated table, from two camera images and a sentence.
A slow trunk turns images and words into {tokens} latent tokens of {token_dim}; a fast expert turns
the newest latent, its age, the robot's state and a fresh wrist image into 16 rows, 30 times a
second. Written by `vla-ros policy card` from the files of the run; no number is typed.
"""

_LIMITS = """## Limits

- It knows this table, these six colours, this size of cubes and bowls, these two cameras where they
  are. Nothing was randomised but layout, words and motion: neither light nor texture nor cameras.
- It was trained and measured in simulation only, with an expert that knew where everything was.
- The fast half stands on the robot's reference pose; with another controller it needs new
  demonstrations.
- It does not refuse what it does not understand: words that are unknown are refused before it.
- Nothing in it is a safety function. Limits of speed, force and space are those of the control
  host.
{ages}"""


@dataclass(frozen=True, kw_only=True)
class CardSources:
    """Where the numbers are.

    Attributes:
        policy: folder of the export.
        demos: summary of the demonstrations, JSON.
        checkpoint: of the training.
        log: of the training, CSV.
        results: of the evaluation, CSV.
    """

    policy: Path
    demos: Path
    checkpoint: Path
    log: Path
    results: Path


def write_card(sources: CardSources, folder: Path) -> Path:
    """Write ``<name>.md`` into a folder and return it.

    Raises:
        ConfigError: if a source is missing.
    """
    policy = open_policy(sources.policy)
    settings = load_checkpoint(sources.checkpoint).settings
    rows = [r for r in _read_csv(sources.results) if r["arm"] == sources.policy.name]
    parts = [
        _HEAD.format(name=policy.manifest.name, **_latent_size(policy.manifest)),
        "## What it achieves\n\n" + _results(rows),
        "## Data\n\n" + _data(_read_json(sources.demos)),
        "## Training\n\n" + _training(settings, _read_csv(sources.log)),
        "## Files\n\n" + _files(policy),
        _LIMITS.format(ages=_ages(policy.manifest)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{policy.manifest.name}.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _latent_size(manifest: Manifest) -> dict[str, int]:
    slow = manifest.graphs.get("slow")
    latent = None if slow is None else slow.output(Role.LATENT)
    if latent is None or len(latent.size) != 3:
        raise ConfigError(f"{manifest.name} has no latent of tokens: a card needs a split policy")
    return {"tokens": latent.size[1], "token_dim": latent.size[2]}


def _ages(manifest: Manifest) -> str:
    age = manifest.acting.input(Role.LATENT_AGE)
    details = None if age is None else age.details
    if not isinstance(details, LatentAgeDetails) or details.told_up_to_s >= manifest.max_age_s:
        return ""
    return (
        f"- It is told how old its latent is up to {details.told_up_to_s:g} s only: greater ages "
        "mislead it,\n  for in its demonstrations they stood for progress "
        "(docs/decisions/0007-told-ages.md).\n"
    )


def _results(rows: Sequence[Mapping[str, str]]) -> str:
    seeds = sorted({int(row["seed"]) for row in rows})
    scrambled = next(cell for cell in CELLS if cell.is_scrambled)
    limit_s = max((float(r["duration_s"]) for r in rows if r["success"] != "True"), default=0.0)
    return (
        f"{to_markdown(summarise(rows))}\n\n"
        "Virtual time, judged from the simulation's state, same seeds in every cell, layouts\n"
        f"never trained on (training seeds begin at {FIRST_TRAINING_SEED}). 95 % bootstrap\n"
        f"intervals. What is not done after {limit_s:.0f} s has failed. "
        "`held-out`: pairs of colours never trained\n"
        "together. `every-age`, `no-age`: the fast half is told every age of its latent, or none.\n"
        "`naive`: both halves as one policy, executed "
        "from its first row whenever it arrives. `blank`:\nblack images. `scrambled`: told any of "
        "the eight goals, "
        f"which is the right one {100 * chance(scrambled, seeds):.1f} % of the time.\n"
    )


def _data(demos: Mapping[str, Any]) -> str:
    goals = "\n".join(f"| {goal} | {n} |" for goal, n in demos["goals"].items())
    held_out = ", ".join(f'"{goal.text}"' for goal in HELD_OUT_GOALS)
    return (
        f"{demos['successes']} successful of {demos['demonstrations']} demonstrations by the "
        f"scripted expert with noise, seeds {demos['first_seed']} to {demos['last_seed']}, made in "
        f"{demos['wall_s'] / 60:.0f} min by {demos['processes']} processes. Images "
        f"{demos['camera_hz']:g} times a second, labels {demos['chunk_hz']:g} times.\n\n"
        f"Never asked for: {held_out}.\n\n| goal | demonstrations |\n|---|---|\n{goals}\n"
    )


def _training(settings: Mapping[str, Any], log: Sequence[Mapping[str, str]]) -> str:
    last = log[-1]
    delays = settings["sampling"]["delays"]
    shares = zip(delays["latencies_s"], delays["weights"], strict=True)
    return (
        f"{last['step']} steps of {settings['sampling']['batch_frames']} frames with "
        f"{settings['sampling']['frame_steps']} steps each, {float(last['wall_s']) / 60:.0f} min "
        f"on {settings['threads']} threads, seed {settings['seed']}. Slow latencies were drawn "
        f"from {', '.join(f'{latency:g} s ({weight:g})' for latency, weight in shares)}; "
        f"{100 * settings['sampling']['age_dropout']:.0f} % of the steps were not told the age.\n\n"
        "On demonstrations not trained on, median: what to pick "
        f"{float(last['check_pick_cm']):.1f} cm away from the truth by the slow half, "
        f"{float(last['check_pick_now_cm']):.1f} cm by the fast one; where to place "
        f"{float(last['check_place_cm']):.1f} cm.\n"
    )


def _files(policy: PolicyFolder) -> str:
    lines = ["| file | bytes | sha256 |", "|---|---|---|"]
    for name, sha256 in policy.manifest.all_files.items():
        lines.append(f"| {name} | {policy.verify(name).stat().st_size} | {sha256[:16]}... |")
    return "\n".join(lines) + "\n"


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not rows:
        raise ConfigError(f"{path} has no lines")
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
