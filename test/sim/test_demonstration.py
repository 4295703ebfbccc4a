# SPDX-License-Identifier: Apache-2.0
"""Demonstrations, from the simulation to the arrays of training, and a policy made of two."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vla_ros.commands import policy_demos
from vla_ros.commands.policy_evaluate import EvaluateOptions, run_episodes
from vla_ros.errors import RecordingError
from vla_ros.learning import state_vector as sv
from vla_ros.learning.dataset import load_dataset
from vla_ros.learning.demo_reader import read_demonstration
from vla_ros.learning.evaluation import CELLS
from vla_ros.learning.split import HELD_OUT_GOALS, training_goal, training_seed
from vla_ros.recording.episode import EPISODE_FILE, Outcome
from vla_ros.recording.reader import load_episode

pytestmark = pytest.mark.sim

NUMBERS = (2, 4)  # short ones


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    assert policy_demos.demonstrate(folder, NUMBERS) == len(NUMBERS)
    assert all(policy_demos.succeeded(folder, n) for n in NUMBERS)
    return folder


@pytest.fixture(scope="module")
def data(demos):
    return load_dataset([demos / "arrays" / f"episode_{n}.npz" for n in NUMBERS])


def test_demonstration_is_a_bag_like_any_other(demos):
    episode = load_episode(demos / "episode_2")
    assert episode.info.outcome is Outcome.SUCCESS
    assert episode.info.seed == training_seed(2)
    assert episode.info.published == episode.info.recorded > 0
    assert len(episode.chunks) == len(episode.measured.t_s) > 100
    assert episode.verdict.column("success")[-1]
    images = [t for t in episode.info.topics if t.endswith("compressed")]
    assert {t.split("/")[1] for t in images} == {"scene_camera", "wrist_camera"}


def test_same_seed_gives_the_same_arrays(demos, tmp_path):
    policy_demos.demonstrate(tmp_path, [4])
    with (
        np.load(demos / "arrays" / "episode_4.npz") as one,
        np.load(tmp_path / "arrays" / "episode_4.npz") as two,
    ):
        assert one.files == two.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_rows_that_are_right_lead_to_the_goal_and_begin_at_the_reference(data):
    rows, goal = data.arrays["rows"], data.arrays["way_goal"]
    np.testing.assert_allclose(rows[:, 0, :3], 0.0, atol=1e-6)
    before = np.linalg.norm(goal[:, :3], axis=1)
    after = np.linalg.norm(goal[:, :3] - rows[:, -1, :3], axis=1)
    far = before > 0.05
    assert np.mean(after[far] < before[far]) > 0.95


def test_steps_and_frames_know_where_things_are(data):
    a = data.arrays
    named = np.repeat(a["goal"][:, 0], np.diff(data.first_step))
    cube = a["cubes"][np.arange(len(named)), named]
    closed = (a["state"][:, sv.GRIPPER_TARGET] < 0.04) & (a["phase"] == 5)  # carried
    away = np.linalg.norm(cube[closed, :3] - a["state"][closed, sv.EE_POSITION], axis=1)
    assert closed.any()
    assert np.median(away) < 0.02
    assert (a["newest_frame"][1:] >= a["newest_frame"][:-1]).all()
    ages = a["step_s"] - a["frame_s"][a["newest_frame"]]
    assert ages.min() > -1e-3
    assert ages.max() < 0.11


def test_what_was_there_is_not_made_again(demos, capsys):
    before = {p: p.stat().st_mtime_ns for p in demos.rglob("*") if p.is_file()}
    assert all(policy_demos.is_complete(demos, n) for n in NUMBERS)
    assert not policy_demos.is_complete(demos, 3)
    (demos / "arrays" / "episode_3.npz").touch()
    assert not policy_demos.is_complete(demos, 3)
    (demos / "arrays" / "episode_3.npz").unlink()
    assert before == {p: p.stat().st_mtime_ns for p in demos.rglob("*") if p.is_file()}


def test_summary_counts_what_is_in_the_folder_and_adds_up_the_time(demos):
    options = policy_demos.DemosOptions(demos=5, out=str(demos))
    policy_demos.write_summary(demos, options, 60.0)
    policy_demos.write_summary(demos, options, policy_demos.wall_s_of(demos) + 30.0)
    path = demos / policy_demos.SUMMARY_FILE
    summary = json.loads(path.read_text("utf-8"))
    path.unlink()
    assert (summary["demonstrations"], summary["successes"], summary["wall_s"]) == (2, 2, 90.0)
    goals = [training_goal(training_seed(n)).text for n in NUMBERS]
    assert summary["goals"] == {goal: goals.count(goal) for goal in goals}


def test_bag_of_a_held_out_goal_is_refused(demos, tmp_path):
    path = tmp_path / "episode_2"
    path.mkdir()
    for file in (demos / "episode_2").iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    about = json.loads((path / EPISODE_FILE).read_text("utf-8"))
    about["instruction"] = HELD_OUT_GOALS[0].text
    (path / EPISODE_FILE).write_text(json.dumps(about), "utf-8")
    with pytest.raises(RecordingError, match="held out"):
        read_demonstration(path)
    about["outcome"] = "failure"
    (path / EPISODE_FILE).write_text(json.dumps(about), "utf-8")
    assert read_demonstration(path) is None


def test_goals_of_the_seeds_are_what_is_asked_for(data):
    from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS

    for number, (cube, bowl) in zip(NUMBERS, data.arrays["goal"], strict=True):
        goal = training_goal(training_seed(number))
        assert (CUBE_COLOURS[cube], BOWL_COLOURS[bowl]) == (goal.cube_colour, goal.bowl_colour)


def test_two_demonstrations_become_a_policy_that_runs(demos, tmp_path):
    for module in ("torch", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(module)
    from learning_samples import TINY

    from vla_ros import cli

    size = [
        f"--{name.replace('_', '-')}={getattr(TINY, name)}"
        for name in (
            "channels",
            "blocks",
            "hidden",
            "key_dim",
            "token_dim",
            "wrist_channels",
            "word_dim",
        )
    ]
    train = ["policy", "train", f"--demos={demos}", f"--out={tmp_path / 'train'}", *size]
    train += ["--steps=3", "--threads=1", "--batch-frames=2", "--frame-steps=2"]
    assert cli.main([*train, "--stop-after=2"]) == 0
    assert cli.main(train) == 0  # goes on
    out = tmp_path / "tiny"
    export = ["policy", "export", f"--checkpoint={tmp_path / 'train' / 'checkpoint.npz'}"]
    assert cli.main([*export, f"--out={out}", "--name=tiny"]) == 0
    options = EvaluateOptions(policy=str(out), max_duration_s=1.0)
    for cell in CELLS:
        if cell.name in ("seen-500ms", "naive-500ms", "blank-0ms"):
            (row,) = run_episodes(options, cell, [5])
            assert row["success"] == "False"
            assert float(row["age_error_ms_max"]) < 1.0 or cell.is_blank, row
            assert row["goal"] == cell.judged_goal(5).text
