# SPDX-License-Identifier: Apache-2.0
"""A manifest says everything, agrees with itself, and is refused with a reason if it does not."""

from __future__ import annotations

import copy

import pytest
import yaml
from onnx_samples import A, H, L, description

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.parse import parse_manifest
from vla_ros.policies.manifest.schema import Kind, Role

HASH = "a" * 64


def complete(**changes) -> dict:
    data = {"format": 1} | description(**changes)
    for graph in data["graphs"].values():
        graph.setdefault("sha256", HASH)
    data["files"] = dict.fromkeys(data["files"], HASH)
    return data


def parse(data) -> object:
    return parse_manifest(yaml.safe_dump(data, sort_keys=False))


def test_manifest_says_what_every_tensor_means():
    manifest = parse(complete())
    assert (manifest.kind, manifest.seeing.name, manifest.acting.name) == (
        Kind.SPLIT,
        "slow",
        "fast",
    )
    image = manifest.graphs["slow"].input(Role.IMAGES)
    assert image.details.cameras == ("scene", "wrist")
    assert manifest.graphs["fast"].output(Role.ACTIONS).size == (1, H, A)
    assert manifest.actions.columns == A
    assert set(manifest.all_files) == {"slow.onnx", "fast.onnx", "vocabulary.json"}


def test_named_batch_is_one():
    manifest = parse(complete(graphs__slow__outputs__latent__shape=["batch", 1, 4]))
    assert manifest.graphs["slow"].outputs[0].size == (1, 1, 4)


FAULTS = {
    "format": ("format", 2, r"format must be 1, got 2"),
    "name": ("name", "../x", "name must be up to 64 letters"),
    "kind": ("kind", "whole", "kind must be one of split, chunk, got 'whole'"),
    "unknown key": ("weights", 1, "unknown key 'weights'; known: format, name"),
    "age": ("max_age_s", 0, r"max_age_s must be a number from 0\.05 to 60, got 0"),
    "nan": ("max_age_s", float("nan"), "max_age_s must be a number"),
    "hash": ("normalisation_sha256", "F" * 64, "must be a SHA-256 of 64 digits 0-9a-f"),
    "role": (
        "graphs__slow__inputs__image__role",
        "picture",
        r"graphs\.slow\.inputs\.image\.role must be one of images,.*got 'picture'",
    ),
    "dtype": ("graphs__slow__inputs__image__dtype", "float32", "must be uint8"),
    "dtype unknown": (
        "graphs__slow__inputs__image__dtype",
        "object",
        "dtype must be one of float32",
    ),
    "shape": ("graphs__slow__inputs__image__shape", [1, 3, 12, 12, 3], "images of 2 cameras"),
    "shape of text": ("graphs__fast__inputs__state__shape", [1, "n"], r"shape\[1\] must be 1 to"),
    "huge": ("graphs__fast__inputs__state__shape", [1, 2**40], r"shape\[1\] must be 1 to"),
    "key of tensor": (
        "graphs__fast__inputs__state__cameras",
        ["a"],
        r"graphs\.fast\.inputs\.state: unknown key 'cameras'",
    ),
    "state width": ("graphs__fast__inputs__state__shape", [1, 5], r"float32 \[1, 4\], got"),
    "state field": (
        "graphs__fast__inputs__state__fields",
        ["speed"],
        "unknown state field 'speed'; known: ee_position_m",
    ),
    "joints": (
        "graphs__fast__inputs__state__fields",
        ["q_rad"],
        "q_rad needs n_joints",
    ),
    "latent": (
        "graphs__fast__inputs__latent__shape",
        [1, 2, 4],
        r"latent is float32 \[1, 2, 4\], but slow makes it float32 \[1, 1, 4\]",
    ),
    "latent source": (
        "graphs__fast__inputs__latent__source",
        "features",
        "latent is no output of slow, which makes latent",
    ),
    "told age": (
        "graphs__fast__inputs__latent_age_s__told_up_to_s",
        -1,
        r"latent_age_s: told_up_to_s must be 0\.0 to 3600\.0 s, got -1",
    ),
    "told age of another tensor": (
        "graphs__fast__inputs__latent__told_up_to_s",
        1.0,
        "latent: unknown key 'told_up_to_s'",
    ),
    "actions": ("actions__rows", 9, rf"must be float32 \[1, 9, {A}\]"),
    "execution": ("actions__execution_rows", 99, "execution_rows must be at most rows"),
    "rotation": ("actions__rotation_format", "euler", "rotation_format must be one of"),
    "gripper": ("actions__gripper_range_m", [0.1, 0.0], r"must be \[smallest, largest\]"),
    "ability": ("abilities__age_input", False, "age_input is False, the tensors say True"),
    "prefix": ("abilities__prefix_rows_max", 3, "no input prefix_rows"),
    "denoising": ("abilities__denoising_steps", 5, r"no graphs\.velocity"),
    "ranking": ("abilities__ranking", "scores", "ranking is scores, the tensors say none"),
    "vocabulary": (
        "graphs__slow__inputs__tokens__vocabulary",
        "words.json",
        "'words.json' is missing under files",
    ),
    "files": ("files", {}, "'vocabulary.json' is missing under files"),
    "rates": ("rates", {"slow_hz": -1}, r"slow_hz must be 0\.01 to 1000"),
}


@pytest.mark.parametrize(("path", "value", "message"), FAULTS.values(), ids=FAULTS)
def test_fault_is_refused_with_place_value_and_what_is_allowed(path, value, message):
    data = complete()
    *parents, key = path.split("__")
    at = data
    for parent in parents:
        at = at[parent]
    at[key] = value
    with pytest.raises(ConfigError, match=message):
        parse(data)


@pytest.mark.parametrize(
    "key", ["format", "name", "kind", "max_age_s", "normalisation_sha256", "graphs", "actions"]
)
def test_what_is_missing_is_named(key):
    data = complete()
    del data[key]
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        parse(data)


@pytest.mark.parametrize("graph", ["slow", "fast"])
@pytest.mark.parametrize("key", ["file", "sha256", "inputs", "outputs"])
def test_missing_part_of_a_graph_is_named(graph, key):
    data = complete()
    del data["graphs"][graph][key]
    with pytest.raises(ConfigError, match=rf"graphs\.{graph}: {key} is missing"):
        parse(data)


def test_graph_of_the_other_kind_is_refused():
    data = complete()
    data["graphs"]["chunk"] = copy.deepcopy(data["graphs"]["fast"])
    with pytest.raises(ConfigError, match="split policy are slow, fast, velocity, got 'chunk'"):
        parse(data)
    with pytest.raises(ConfigError, match=r"a chunk policy needs graphs\.chunk"):
        parse(complete(kind="chunk"))


def test_two_tensors_cannot_mean_the_same():
    data = complete()
    fast = data["graphs"]["fast"]["inputs"]
    fast["age"] = copy.deepcopy(fast["latent_age_s"])
    with pytest.raises(ConfigError, match="two inputs are latent_age_s"):
        parse(data)


def test_fast_half_needs_actions():
    data = complete()
    data["graphs"]["fast"]["outputs"] = {
        "done": {"role": "done", "dtype": "float32", "shape": [1, 1]}
    }
    with pytest.raises(ConfigError, match=r"graphs\.fast has no output actions"):
        parse(data)


def test_one_file_cannot_be_two_graphs():
    with pytest.raises(ConfigError, match=r"'slow\.onnx' is named twice"):
        parse(complete(graphs__fast__file="slow.onnx"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("a: &x 1\nb: *x", r"has an alias \(\*x\)"),
        ("name: a\nname: b", "line 2: name is given twice"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("a: " + "[" * 40 + "]" * 40, "16 deep"),
        ("a: " + "[" * 5000, "manifest.yaml"),
        ("a: 2020-13-45", "is not YAML|format is missing"),
        ("1: 2", "keys must be text"),
        ("x: " + "y" * 300_000, "more than 262144 bytes"),
        ("a:\n" + "- 1\n" * 30_000, "at most 20000 values"),
    ],
)
def test_text_that_is_no_manifest_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_manifest(text)


def test_tokens_have_the_length_of_the_graph():
    manifest = parse(complete())
    assert manifest.graphs["slow"].input(Role.INSTRUCTION).size == (1, L)
