# SPDX-License-Identifier: Apache-2.0
"""What an export says of itself: graphs, meanings of their tensors, rates, hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ConfigError
from vla_ros.learning.model_config import N_VIEWS, ModelConfig
from vla_ros.learning.relative_rows import ACTION_SIZE, CHUNK_DT_NS, CHUNK_ROWS
from vla_ros.learning.state_vector import (
    STATE_CENTRE,
    STATE_FIELDS,
    STATE_SCALE,
    STATE_SIZE,
)
from vla_ros.learning.views import SIDE_PX, WRIST_BOX_PX, WRIST_SHAPE
from vla_ros.learning.vocabulary import MAX_TOKENS

MANIFEST_FILE = "manifest.yaml"
VOCABULARY_FILE = "vocabulary.json"
FORMAT = 1
MAX_AGE_S = 6.0
CAMERAS = ("scene_camera", "wrist_camera")
_CUT_ROWS = SIDE_PX - WRIST_SHAPE[0] * WRIST_BOX_PX


def write_manifest(
    folder: Path, name: str, kind: str, graphs: Sequence[str], config: ModelConfig, about: str
) -> Path:
    """Write ``manifest.yaml`` beside exported graphs and return its path.

    Args:
        folder: holds the graphs and the vocabulary.
        name: of the policy.
        kind: "split", of graphs slow and fast, or "chunk", of one.
        graphs: names of the graphs.
        config: sizes of the model.
        about: what a person should know of it.
    """
    tensors = describe_tensors(config)
    described = {
        graph: {
            "file": f"{graph}.onnx",
            "sha256": file_sha256(folder / f"{graph}.onnx"),
            "inputs": {n: tensors[graph, n] for n in _INPUTS[graph]},
            "outputs": {n: tensors[graph, n] for n in _OUTPUTS[graph]},
        }
        for graph in graphs
    }
    manifest = {
        "format": FORMAT,
        "name": name,
        "kind": kind,
        "description": about,
        "max_age_s": MAX_AGE_S,
        "normalisation_sha256": normalisation_sha256(),
        "graphs": described,
        "actions": describe_actions(),
        "abilities": {"age_input": kind == "split"},
        "rates": {"slow_hz": 10.0, "fast_hz": 30.0},
        "files": {VOCABULARY_FILE: file_sha256(folder / VOCABULARY_FILE)},
    }
    path = folder / MANIFEST_FILE
    # Through JSON, so that nothing is the same object twice: YAML would write an alias.
    text = yaml.safe_dump(json.loads(json.dumps(manifest)), sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an export whose files are those it states.

    Raises:
        ConfigError: if it or a file is missing, outside the folder or another one.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        stated: dict[str, str] = {g["file"]: g["sha256"] for g in manifest["graphs"].values()}
        stated |= manifest["files"]
        if manifest["format"] != FORMAT:
            raise ConfigError(f"{path} is of another format")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no manifest: {error}") from error
    for name, sha256 in stated.items():
        if Path(name).name != name:
            raise ConfigError(f"{path}: {name!r} must lie in the folder itself")
        if file_sha256(folder / name) != sha256:
            raise ConfigError(f"{folder / name} is not the file of the manifest: sha256 differs")
    return dict(manifest)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; raises ``ConfigError`` if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def normalisation_sha256() -> str:
    """Return the hash of the constants that bring state values to order one."""
    text = json.dumps({"centre": STATE_CENTRE, "scale": STATE_SCALE, "pixels": [127.5, 1.0]})
    return hashlib.sha256(text.encode()).hexdigest()


_INPUTS = {
    "slow": ("image", "tokens"),
    "fast": ("latent", "latent_age_s", "state", "image"),
    "chunk": ("image", "tokens", "state"),
}
_OUTPUTS = {"slow": ("latent",), "fast": ("actions", "done"), "chunk": ("actions", "done")}


def describe_actions() -> dict[str, Any]:
    """Return what the columns of the actions are."""
    return {
        "rows": CHUNK_ROWS,
        "dt_s": 1e-9 * CHUNK_DT_NS,
        "first_row_s": 0.0,
        "anchor": "reference",
        "position": "relative_base",
        "rotation": "relative_base",
        "rotation_format": "yaw_sin_cos",
        "gripper": "width_m",
        "gripper_range_m": [0.0, 0.08],
    }


def describe_tensors(config: ModelConfig) -> Mapping[tuple[str, str], dict[str, Any]]:
    """Return what every tensor of every graph is."""
    images = _tensor("images", "uint8", (N_VIEWS, SIDE_PX, SIDE_PX, 3))
    images |= {"cameras": list(CAMERAS), "resize": "none"}
    small = _tensor("images", "uint8", (*WRIST_SHAPE, 3))
    small |= {"cameras": [CAMERAS[1]], "resize": "area", "crop_px": [0, _CUT_ROWS, 0, 0]}
    tokens = _tensor("instruction", "int64", (MAX_TOKENS,))
    tokens |= {"vocabulary": VOCABULARY_FILE, "tokenizer": "words"}
    state = _tensor("state", "float32", (STATE_SIZE,)) | {"fields": list(STATE_FIELDS)}
    latent = _tensor("latent", "float32", (config.tokens, config.token_dim))
    actions = _tensor("actions", "float32", (CHUNK_ROWS, ACTION_SIZE))
    done = _tensor("done", "float32", (1,))
    return {
        ("slow", "image"): images,
        ("slow", "tokens"): tokens,
        ("slow", "latent"): latent,
        ("fast", "latent"): latent,
        ("fast", "latent_age_s"): _tensor("latent_age_s", "float32", (1,)),
        ("fast", "state"): state,
        ("fast", "image"): small,
        ("fast", "actions"): actions,
        ("fast", "done"): done,
        ("chunk", "image"): images,
        ("chunk", "tokens"): tokens,
        ("chunk", "state"): state,
        ("chunk", "actions"): actions,
        ("chunk", "done"): done,
    }


def _tensor(role: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    return {"role": role, "dtype": dtype, "shape": [1, *shape]}
