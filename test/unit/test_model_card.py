# SPDX-License-Identifier: Apache-2.0
"""A card says what the files of a run say, and is not written without one of them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from learning_samples import tiny_training

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint, save_checkpoint
from vla_ros.learning.model_card import CardSources, write_card

POLICY = Path(__file__).parents[2] / "models" / "pick-place"
N = 20
DEMOS = {
    "demonstrations": 12,
    "successes": 11,
    "wall_s": 240.0,
    "processes": 3,
    "first_seed": 1_000_000_000,
    "last_seed": 1_000_000_011,
    "goals": {"put the green cube in the cyan bowl": 11},
    "camera_hz": 10.0,
    "chunk_hz": 30.0,
}


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def episode(arm: str, cell: str, seed: int, success: bool) -> dict[str, object]:
    return {
        "cell": cell,
        "arm": arm,
        "seed": seed,
        "success": success,
        "duration_s": 4.0 if success else 15.0,
    }


@pytest.fixture
def sources(tmp_path: Path) -> CardSources:
    made = CardSources(
        policy=POLICY,
        demos=tmp_path / "demos.json",
        checkpoint=tmp_path / "checkpoint.npz",
        log=tmp_path / "progress.csv",
        results=tmp_path / "results.csv",
    )
    made.demos.write_text(json.dumps(DEMOS), encoding="utf-8")
    save_checkpoint(made.checkpoint, Checkpoint({}, 6, dataclasses.asdict(tiny_training())))
    checks = {"check_pick_cm": 0.31, "check_pick_now_cm": 0.22, "check_place_cm": 0.13}
    write_csv(made.log, [{"step": 6, "wall_s": 120.0, **checks}])
    rows = [episode("pick-place", "seen-0ms", seed, seed > 0) for seed in range(N)]
    rows += [episode("pick-place", "seen-500ms", seed, seed > 1) for seed in range(N)]
    rows += [episode("classical", "seen-0ms", seed, False) for seed in range(N)]
    write_csv(made.results, rows)
    return made


@pytest.mark.weights
def test_card_says_what_the_files_say(sources: CardSources, tmp_path: Path) -> None:
    path = write_card(sources, tmp_path / "models")
    text = path.read_text(encoding="utf-8")
    assert path.name == "pick-place.md"
    # 19 and 18 of 20; the episodes of another policy do not count.
    assert f"| seen-0ms | {N} | 95.0 % |" in text
    assert f"| seen-500ms | {N} | 90.0 % |" in text
    assert "What is not done after 15 s has failed" in text
    assert "11 successful of 12 demonstrations" in text
    assert "made in 4 min by 3 processes" in text
    assert "| put the green cube in the cyan bowl | 11 |" in text
    assert "6 steps of 2 frames with 2 steps each, 2 min" in text
    assert "0.3 cm away from the truth by the slow half, 0.2 cm by the fast one" in text
    assert "| slow.onnx |" in text
    assert "## Limits" in text
    assert "told how old its latent is up to 0.5 s only" in text


@pytest.mark.weights
@pytest.mark.parametrize("missing", ["demos", "checkpoint", "log", "results"])
def test_card_names_the_file_that_is_missing(
    sources: CardSources, tmp_path: Path, missing: str
) -> None:
    path = getattr(sources, missing)
    path.unlink()
    with pytest.raises(ConfigError, match=path.name):
        write_card(sources, tmp_path / "models")
    assert not (tmp_path / "models").exists()
