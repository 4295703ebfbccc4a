# SPDX-License-Identifier: Apache-2.0
"""Summary of an evaluation, the model card made of it, and bad input to the commands."""

from __future__ import annotations

import csv
import json

import pytest
from learning_samples import TINY

from vla_ros import cli
from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint, save_checkpoint
from vla_ros.learning.evaluation import choose_cells, summarise, to_markdown
from vla_ros.learning.manifest import write_manifest
from vla_ros.learning.split import FIRST_TRAINING_SEED
from vla_ros.learning.vocabulary import default_vocabulary
from vla_ros.policies.manifest.schema import Kind


def rows(cell, won):
    return [
        {"cell": cell, "arm": "tiny", "seed": str(i), "success": str(w), "duration_s": "5.0"}
        for i, w in enumerate(won)
    ]


def test_summary_has_rates_and_paired_differences():
    found = summarise(rows("seen-500ms", [True] * 18 + [False] * 2) + rows("seen-0ms", [True] * 20))
    assert [s.name for s in found] == ["seen-0ms", "seen-500ms"]
    assert found[0].rate == 1.0
    assert found[1].successes == 18
    assert found[1].difference == pytest.approx(-0.1)
    assert found[1].difference_low < -0.1 < found[1].difference_high <= 0.0
    assert "| seen-500ms | 20 | 90.0 % |" in to_markdown(found)


def test_unknown_cell_is_refused_with_those_there_are():
    assert [c.name for c in choose_cells("blank-0ms,seen-0ms")] == ["blank-0ms", "seen-0ms"]
    with pytest.raises(ConfigError, match="held-out-0ms"):
        choose_cells("seen-1ms")


def test_cells_of_a_cache_are_asked_for_by_their_group_and_need_an_export_with_one():
    names = [c.name for c in choose_cells("cache,seen-0ms", has_cache=True)]
    assert names[0] == "cached-0ms"
    assert names[-1] == "seen-0ms"
    assert not set(names[:-1]) & {c.name for c in choose_cells("all", has_cache=True)}
    with pytest.raises(ConfigError, match="cached-0ms needs an export with a cache"):
        choose_cells("cached-0ms")
    blind = [c for c in choose_cells("cache", has_cache=True) if c.name.startswith("reuse-all")]
    assert {c.cache.min_reuse_ratio for c in blind} == {1.0}
    assert {c.is_moved for c in blind} == {False, True}


def test_cells_with_a_moved_cube_are_compared_with_one_of_the_same():
    found = summarise(
        rows("seen-0ms", [True] * 4)
        + rows("moved-0ms", [True] * 3 + [False])
        + rows("reuse-all-moved-0ms", [False] * 4)
    )
    blind = found[-1]
    assert (blind.name, blind.reference) == ("reuse-all-moved-0ms", "moved-0ms")
    assert blind.difference == pytest.approx(-0.75)
    assert "-75.0" in (line := to_markdown(found).splitlines()[-1])
    assert "against moved-0ms" in line


@pytest.fixture
def sources(tmp_path):
    policy = tmp_path / "tiny"
    policy.mkdir()
    for name in ("slow.onnx", "fast.onnx"):
        (policy / name).write_bytes(b"graph")
    (policy / "vocabulary.json").write_text(default_vocabulary().to_json(), "utf-8")
    write_manifest(policy, "tiny", Kind.SPLIT, ("slow", "fast"), TINY, "for tests")
    demos = tmp_path / "demos" / "demos.json"
    demos.parent.mkdir()
    about = {
        "successes": 19,
        "demonstrations": 20,
        "first_seed": 1,
        "last_seed": 20,
        "wall_s": 60.0,
    }
    about |= {"processes": 2, "camera_hz": 10.0, "chunk_hz": 30.0, "goals": {"one": 19}}
    demos.write_text(json.dumps(about), "utf-8")
    delays = {"latencies_s": [0.0, 2.0], "weights": [0.7, 0.3]}
    sampling = {"batch_frames": 32, "frame_steps": 4, "age_dropout": 0.15, "delays": delays}
    settings = {"sampling": sampling, "threads": 2, "seed": 0}
    save_checkpoint(tmp_path / "train" / "checkpoint.npz", Checkpoint({}, 9, settings))
    log = {"step": 9, "wall_s": 120.0, "check_pick_cm": 0.5, "check_pick_now_cm": 0.4}
    write_csv(tmp_path / "train" / "progress.csv", [log | {"check_place_cm": 0.6}])
    write_csv(tmp_path / "found.csv", rows("seen-0ms", [True, True, False]))
    return tmp_path


def write_csv(path, lines):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def card(folder):
    return cli.main(
        [
            *("policy", "card", f"--policy={folder / 'tiny'}", f"--demos={folder / 'demos'}"),
            *(f"--train={folder / 'train'}", f"--csv={folder / 'found.csv'}"),
            f"--out={folder / 'cards'}",
        ]
    )


def test_card_says_what_the_files_say(sources):
    assert card(sources) == 0
    text = (sources / "cards" / "tiny.md").read_text("utf-8")
    for part in (
        *("# tiny", "| seen-0ms | 3 | 66.7 % |", "19 successful of 20", "| one | 19 |"),
        *("put the red cube in the cyan bowl", str(FIRST_TRAINING_SEED), "9 steps of 32"),
        *("2 min", "0.5 cm away", "2 s (0.3)", "| slow.onnx | 5 |", "## Limits"),
    ):
        assert part in text, part
    assert "nan" not in text


@pytest.mark.parametrize("missing", ["found.csv", "demos/demos.json", "train/progress.csv"])
def test_card_without_a_source_is_refused(sources, missing, capsys):
    (sources / missing).unlink()
    assert card(sources) == 2
    assert missing.rsplit("/", 1)[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demos", "--demos", "0"], "demos must be 1 to"),
        (["train", "--steps", "0"], "steps must be 1 to"),
        (["train", "--demos", "nowhere"], "no demonstrations in nowhere"),
        (["train", "--age-dropout", "2"], "age_dropout must be 0.0 to 1.0"),
        (["export", "--checkpoint", "nowhere.npz"], "nowhere.npz"),
        (["evaluate", "--cells", "all-of-them"], "cells are seen-0ms"),
        (["evaluate", "--policy", "nowhere"], "there is no nowhere/manifest.yaml"),
        (["evaluate", "--first-seed", str(FIRST_TRAINING_SEED)], "belong to training"),
        (["evaluate", "--first-seed", str(FIRST_TRAINING_SEED - 1)], "belong to training"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(arguments, message, capsys, tmp_path):
    if arguments[0] in ("train", "export"):
        pytest.importorskip("torch")
    assert cli.main(["policy", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
