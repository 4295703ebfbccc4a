# SPDX-License-Identifier: Apache-2.0
"""The learned policy in the runtime that nodes use: what it is shown, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from learned_samples import (
    AGE_TO_Y,
    BASE_ROWS,
    LIGHT_TO_Z,
    SCENE,
    WRIST,
    H,
    fast_model,
    write_learned,
)
from onnx_samples import MS, NOW, frame, latent, observation, robot_state

from vla_ros import cli, share
from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.errors import ConfigError, InstructionError, PolicyError
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.latency.stamping import schema_hash
from vla_ros.learning.manifest import TOLD_UP_TO_S
from vla_ros.learning.split import HELD_OUT_GOALS
from vla_ros.policies.instruction import ALL_GOALS
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Role
from vla_ros.policies.onnx.contract import capabilities_of
from vla_ros.policies.onnx.load import load_fast, load_slow
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import (
    DEFAULT_POLICY,
    make_fast_policy,
    make_instruction_check,
    policy_folder,
    resolve_policy_name,
    verify_policy,
)

RUNTIME = PolicyRuntime(session=SessionSettings(provider="cpu"))
BLACK = (frame(SCENE, 0, size=224), frame(WRIST, 0, size=224))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_learned(tmp_path_factory.mktemp("policy"))


def seen(*frames, **changes):
    return dataclasses.replace(
        observation("put the red cube in the cyan bowl", frames=frames or BLACK), **changes
    )


def made(path, age_ms=100):
    tensors = load_slow(path, RUNTIME).encode(seen())
    return dataclasses.replace(latent(age_ms=age_ms), tensors=tensors)


def test_rows_begin_at_the_reference_and_follow_age_and_fresh_wrist_image(path):
    fast = load_fast(path, RUNTIME)
    light = (frame(SCENE, 0, size=224), frame(WRIST, 51, size=224))
    state = robot_state(position=(0.4, -0.1, 0.3))
    chunk = fast.decode(made(path, age_ms=300), seen(*light, state=state), NOW)
    expected = np.array([[0.4 + 0.001 * i, -0.1 + 0.3 * AGE_TO_Y, 0.3] for i in range(H)])
    expected[:, 2] += 0.2 * LIGHT_TO_Z
    np.testing.assert_allclose(chunk.positions, expected, atol=1e-6)
    assert chunk.target0_ns == NOW


def told_age_s(path, age_ms, **how):
    """The age that the fast half was told: rows of the made-up graph show it."""
    fast = load_fast(path, RUNTIME, **how)
    rows = fast.decode(made(path, age_ms=age_ms), seen(), NOW).positions
    return pytest.approx((rows[0, 1] - 0.1) / AGE_TO_Y, abs=1e-3)


def test_age_that_is_hidden_is_the_one_that_training_hid(path):
    assert told_age_s(path, 2000, tells_age=True) == 2.0
    assert told_age_s(path, 2000, tells_age=False) == -1.0
    assert told_age_s(path, 100, tells_age=False) == -1.0


def test_ages_are_told_up_to_the_one_that_the_manifest_says(path):
    assert told_age_s(path, 400) == 0.4
    assert told_age_s(path, 1000 * TOLD_UP_TO_S) == TOLD_UP_TO_S
    assert told_age_s(path, 600) == -1.0


def test_all_goals_are_understood_those_held_out_from_training_too(path):
    check = make_instruction_check(f"onnx:{path}")
    assert set(HELD_OUT_GOALS) < set(ALL_GOALS)
    for goal in ALL_GOALS:
        check.check_instruction(goal.text)
        load_slow(path, RUNTIME).encode(dataclasses.replace(seen(), instruction=goal.text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("put the pink cube in the cyan bowl", "there is no pink cube; cubes are red"),
        ("put the red cube", "names no bowl; say 'put the <red"),
        ("bowl cyan the in cube red the put", "'cyan' must be followed by 'cube' or 'bowl'"),
        ("put the red cube within the cyan bowl", "'within' is not understood.*; known words: and"),
        ("dance", "'dance' is not understood; say 'put the <red"),
        ("", "the instruction is empty; say"),
    ],
)
def test_words_and_sentences_that_are_not_understood_are_refused_with_those_that_are(
    path, text, message
):
    with pytest.raises(InstructionError, match=message):
        make_instruction_check(f"onnx:{path}").check_instruction(text)


def test_camera_that_is_missing_is_named_by_both_halves(path):
    with pytest.raises(PolicyError, match=f"no image of '{WRIST}'; got \\['{SCENE}'\\]"):
        load_slow(path, RUNTIME).encode(seen(BLACK[0]))
    with pytest.raises(PolicyError, match=f"no image of '{WRIST}'"):
        load_fast(path, RUNTIME).decode(made(path), seen(BLACK[0]), NOW)


def step(folder, frames=BLACK):
    """One step of the executor that nodes run, with a latent of the folder's slow half."""
    slow, fast = load_slow(folder, RUNTIME), load_fast(folder, RUNTIME)
    executor = ChunkExecutor(fast, LatentBuffer())
    executor.set_context(executor.context(1, 1), NOW, None)
    tensors = slow.encode(seen())
    stamp = latent().stamp.replace(
        schema_hash=schema_hash({"latent": tensors["latent"]}, slow.manifest.normalisation_sha256),
        model_hash=slow.model_hash,
        capture_newest_ns=NOW - 100 * MS,
        publish_ns=NOW - 10 * MS,
        soft_expire_ns=NOW + 900 * MS,
    )
    executor._buffer.offer(dataclasses.replace(latent(), tensors=tensors, stamp=stamp), NOW)
    return executor.step(
        NOW, robot_state(), "put the red cube in the cyan bowl", 1, {f.name: f for f in frames}
    )


def test_executor_commits_its_rows(path):
    result = step(path)
    assert result.segment is not None, result.starved_reason
    assert result.latent_age_ms == pytest.approx(100.0)


def test_without_the_wrist_camera_nothing_is_executed_and_the_reason_names_it(path):
    result = step(path, BLACK[:1])
    assert result.segment is None
    assert f"no image of '{WRIST}'" in result.starved_reason


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.nan, "output actions is not finite"),
        (2, np.inf, "output actions is not finite"),
        (1, 50.0, "is 50 m away"),
        (5, 3.0, "gripper widths must be"),
        (4, 0.0, "points nowhere"),
    ],
)
def test_rows_that_make_no_sense_are_not_executed(tmp_path, column, value, message):
    rows = BASE_ROWS.copy()
    rows[0, 3, column] = value
    result = step(write_learned(tmp_path, fast_model(rows)))
    assert result.segment is None
    assert message in result.starved_reason


def test_graph_of_another_shape_is_refused_at_load(tmp_path):
    other = fast_model()
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = H - 1
    folder = write_learned(tmp_path, other)
    with pytest.raises(ConfigError, match=f"actions is float32 .*the manifest says .*{H}, 6"):
        load_fast(folder, RUNTIME)


def test_latent_of_other_weights_is_refused(path, tmp_path):
    other = write_learned(tmp_path, fast_model(2 * BASE_ROWS))
    assert make_fast_policy(f"onnx:{other}", RUNTIME).model_hash != load_slow(path).model_hash


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """Where the weights of the default policy would be, and nowhere else."""
    monkeypatch.setattr(share, "share_folders", lambda: [tmp_path / "a", tmp_path / "b"])
    return tmp_path / "b" / "models" / DEFAULT_POLICY


def test_default_is_found_by_its_name_as_soon_as_its_folder_is_there(shipped):
    write_learned(shipped)
    assert resolve_policy_name(DEFAULT_POLICY) == DEFAULT_POLICY
    assert policy_folder(DEFAULT_POLICY) == shipped
    verify_policy(DEFAULT_POLICY)
    make_instruction_check(DEFAULT_POLICY).check_instruction(ALL_GOALS[0].text)


def demo(*options: str) -> int:
    return cli.main(["demo", "--no-viewer", "--out", "nowhere", *options])


def test_demo_without_weights_says_what_is_missing_and_how_to_get_it(
    shipped, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(Path(__file__).resolve().parents[2] / "config")
    monkeypatch.setattr(share, "share_folders", lambda: [tmp_path])
    assert demo() == 2
    said = capsys.readouterr().err
    for part in (
        *(f"models/{DEFAULT_POLICY}/manifest.yaml is missing", str(tmp_path)),
        *("vla-ros policy demos, train, export", "--policy classical"),
    ):
        assert part in said, part
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["slow.onnx", "fast.onnx", "vocabulary.json"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing", "outside"])
def test_demo_refuses_harmed_files_before_anything_is_started(
    name, harm, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = write_learned(tmp_path / "policy")
    file, manifest = folder / name, folder / "manifest.yaml"
    data = bytearray(file.read_bytes())
    if harm == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif harm == "missing":
        file.unlink()
    else:
        (tmp_path / name).write_bytes(data)
        manifest.write_text(manifest.read_text("utf-8").replace(name, f"../{name}"), "utf-8")
    assert demo("--policy", f"onnx:{folder}") == 2
    said = capsys.readouterr().err
    assert name in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "nowhere").exists()


def test_demo_asks_the_policy_whether_it_understands_before_anything_is_started(
    path, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = "put the red cube within the cyan bowl"
    assert demo("--policy", f"onnx:{path}", "--instruction", words) == 2
    assert "'within' is not understood" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_evaluation_runs_this_runtime_with_and_without_the_age(path, monkeypatch):
    from vla_ros.commands import policy_evaluate as evaluate

    asked = []
    monkeypatch.setattr(
        evaluate, "load_fast", lambda folder, runtime, tells_age: asked.append(tells_age)
    )
    monkeypatch.setattr(evaluate, "load_slow", lambda folder, runtime: None)
    options = evaluate.EvaluateOptions(
        policy=str(path), cells="seen-0ms,no-age-500ms,every-age-500ms"
    )
    for cell in evaluate.choose_cells(options.cells):
        evaluate.run_episodes(options, cell, ())
    assert asked == [None, False, True]
    assert options.arm == path.name
    assert evaluate.EvaluateOptions(policy="classical").arm == "classical"


@pytest.mark.weights
def test_shipped_policies_say_which_ages_they_are_told_and_which_rows_to_execute():
    split = load_fast(policy_folder("pick-place"), RUNTIME)
    age = split.manifest.acting.input(Role.LATENT_AGE)
    assert age.details.told_up_to_s == TOLD_UP_TO_S
    assert split.capabilities.execution_rows == 0
    flow = open_policy(policy_folder("pick-place").parent / "pick-place-flow").manifest
    # Of 16 rows: 8 late, the next are asked for at rest; 3 late, on the way.
    assert capabilities_of(flow).execution_rows == 12
