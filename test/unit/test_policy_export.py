# SPDX-License-Identifier: Apache-2.0
"""Export: graphs that compute what PyTorch computes, and a manifest that notices changes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from learning_samples import TINY, made_up_data, tiny_training

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning import export
from vla_ros.learning.checkpoint import Checkpoint, save_checkpoint
from vla_ros.learning.manifest import ACTIONS
from vla_ros.learning.vocabulary import MAX_TOKENS, default_vocabulary
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind, Role
from vla_ros.policies.onnx.load import load_fast, load_slow
from vla_ros.policies.registry import verify_policy
from vla_ros.policies.tokens import WordTokenizer

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from vla_ros.learning.training import Training

    folder = tmp_path_factory.mktemp("export")
    training = Training(tiny_training(), made_up_data())
    training.run(3, lambda step, losses: None)
    save_checkpoint(folder / "checkpoint.npz", training.checkpoint())
    differences = export.export_policy(folder / "checkpoint.npz", folder / "policy", "tiny")
    return folder / "policy", differences


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported[0], tmp_path / "copied")


def test_graphs_compute_what_pytorch_computes(exported):
    _, differences = exported
    assert set(differences) == {"slow", "fast", "chunk", "cells", "fuse"}
    assert max(differences.values()) <= 1e-4


def test_graphs_have_the_tensors_that_the_manifest_states(exported):
    folder, _ = exported
    for where in (folder, folder / "monolithic"):
        slow, fast = load_slow(where), load_fast(where)  # the runtime compares them
        assert slow.name in ("tiny", "tiny-monolithic")
        assert (fast.chunk_rows, fast.chunk_dt_ns) == (ACTIONS.rows, ACTIONS.dt_ns)


def test_both_halves_one_after_the_other_are_the_whole(exported):
    folder, _ = exported

    def run(path, outputs, feeds):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(outputs, feeds)

    random = np.random.default_rng(0)
    image = random.integers(0, 256, (1, 2, 224, 224, 3), dtype=np.uint8)
    tokens = default_vocabulary().encode("put the red cube in the purple bowl")
    state = random.normal(size=(1, 24)).astype(np.float32)
    from vla_ros.learning.views import shrink_wrist

    (latent,) = run(folder / "slow.onnx", ["latent"], {"image": image, "tokens": tokens})
    feeds = {
        "latent": latent,
        "latent_age_s": np.zeros((1, 1), dtype=np.float32),
        "state": state,
        "image": shrink_wrist(image[0, 1])[None],
    }
    halves = run(folder / "fast.onnx", ["actions"], feeds)[0]
    whole = run(
        folder / "monolithic" / "chunk.onnx",
        ["actions"],
        {"image": image, "tokens": tokens, "state": state},
    )[0]
    np.testing.assert_allclose(whole, halves, atol=1e-3)


def test_graphs_say_nothing_of_the_machine_they_were_made_on(exported):
    folder, _ = exported
    for path in folder.rglob("*.onnx"):
        data = path.read_bytes()
        for word in (b".py", b"site-packages", str(export.__file__).encode()):
            assert word not in data, path.name


def test_manifest_names_the_words_and_the_fields_of_the_state(exported):
    folder, _ = exported
    policy = open_policy(folder)
    assert policy.manifest.kind is Kind.SPLIT
    assert policy.manifest.abilities.age_input
    assert policy.manifest.actions == ACTIONS
    fields = policy.manifest.acting.input(Role.STATE).details.fields
    assert fields[0] == "ref_position_m"
    words = WordTokenizer.from_json(policy.read("vocabulary.json"), MAX_TOKENS, "vocabulary.json")
    assert set(words.words) == set(default_vocabulary().words[2:])


@pytest.mark.parametrize("name", ["slow.onnx", "fast.onnx", "cache/fuse.onnx", "vocabulary.json"])
@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_changed_files_are_refused(name, harm, copied):
    path = copied / name
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "truncated":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(ConfigError, match=name):
        verify_policy(f"onnx:{copied}")


def test_file_outside_the_folder_is_refused(copied):
    path = copied / "manifest.yaml"
    path.write_text(path.read_text("utf-8").replace("slow.onnx", "../slow.onnx"), "utf-8")
    with pytest.raises(ConfigError, match="inside the policy's folder"):
        verify_policy(f"onnx:{copied}")


def test_graph_that_differs_from_pytorch_is_not_handed_out(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "largest_difference", lambda *_: 2e-4)
    monkeypatch.setattr(export, "export_graph", lambda spec, config, folder: folder / spec.file)
    with pytest.raises(PolicyError, match="differs from PyTorch"):
        export.export_policy(exported[0].parent / "checkpoint.npz", tmp_path, "tiny")


def test_checkpoint_without_weights_is_refused(tmp_path):
    settings = {"model": {"channels": TINY.channels}, "words": list(default_vocabulary().words)}
    save_checkpoint(tmp_path / "checkpoint.npz", Checkpoint({}, 1, settings))
    with pytest.raises(ConfigError, match="missing"):
        export.export_policy(tmp_path / "checkpoint.npz", tmp_path / "policy", "tiny")
