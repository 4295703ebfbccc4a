# SPDX-License-Identifier: Apache-2.0
"""What the learned policy's manifest says: meanings of its tensors, its rows, its rates.

The form of manifests, their hashes and their checks are those of ``policies.manifest``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_ros.learning.model_config import N_VIEWS, ModelConfig
from vla_ros.learning.relative_rows import ACTION_SIZE, CHUNK_DT_NS, CHUNK_ROWS
from vla_ros.learning.state_vector import (
    STATE_CENTRE,
    STATE_FIELDS,
    STATE_SCALE,
    STATE_SIZE,
)
from vla_ros.learning.trunk import halo_cells
from vla_ros.learning.views import (
    CELL_PX,
    CELLS,
    SCENE_ROWS,
    SCENE_SHAPE,
    SIDE_PX,
    WRIST_BOX_PX,
    WRIST_SHAPE,
)
from vla_ros.learning.vocabulary import MAX_TOKENS
from vla_ros.policies.action_space import ActionSpace
from vla_ros.policies.manifest.schema import CACHE_GRAPHS, Kind
from vla_ros.policies.manifest.write import write_manifest as write_description

VOCABULARY_FILE = "vocabulary.json"
CACHE_FOLDER = "cache"  # of its graphs, in the folder of an export
MAX_AGE_S = 6.0
# Told greater ages, the shipped weights believe the cube nearer to the bowl: decision 0007.
TOLD_UP_TO_S = 0.5
CAMERAS = ("scene_camera", "wrist_camera")
_CUT_ROWS = SIDE_PX - WRIST_SHAPE[0] * WRIST_BOX_PX

# Relative to the reference pose, along the axes of base.
ACTIONS = ActionSpace(
    rows=CHUNK_ROWS,
    dt_s=1e-9 * CHUNK_DT_NS,
    first_row_s=0.0,
    anchor="reference",
    position="relative_base",
    rotation="relative_base",
    rotation_format="yaw_sin_cos",
    gripper="width_m",
    gripper_range_m=(0.0, 0.08),
)


def write_manifest(
    folder: Path,
    name: str,
    kind: Kind,
    graphs: Sequence[str],
    config: ModelConfig,
    about: str,
    *,
    has_cache: bool = False,
    told_up_to_s: float = TOLD_UP_TO_S,
) -> Path:
    """Write ``manifest.yaml`` beside exported graphs and return its path.

    Args:
        folder: holds the graphs and the vocabulary.
        name: of the policy.
        kind: split, of graphs slow and fast, or in one piece.
        graphs: names of the graphs.
        config: sizes of the model.
        about: what a person should know of it.
        has_cache: the slow half is there as a cache needs it, too.
        told_up_to_s: the fast half is told how old its latent is up to this age.

    Raises:
        ConfigError: if a file is missing, or a reader would refuse the manifest.
    """
    tensors = describe_tensors(config, told_up_to_s)
    description: dict[str, Any] = {
        "name": name,
        "kind": kind.value,
        "description": about,
        "max_age_s": MAX_AGE_S,
        "normalisation_sha256": normalisation_sha256(),
        "graphs": {graph: _graph(graph, f"{graph}.onnx", tensors) for graph in graphs},
        "actions": asdict(ACTIONS),
        "abilities": {"age_input": kind is Kind.SPLIT},
        "rates": {"slow_hz": 10.0, "fast_hz": 30.0},
        "files": [VOCABULARY_FILE],
    }
    if has_cache:
        description["cache"] = {
            "cell_px": CELL_PX,
            "halo_cells": halo_cells(config),
            **{
                graph: _graph(graph, f"{CACHE_FOLDER}/{graph}.onnx", tensors)
                for graph in CACHE_GRAPHS
            },
        }
    return write_description(folder, description)


def _graph(name: str, file: str, tensors: Mapping[tuple[str, str], dict[str, Any]]) -> Any:
    return {
        "file": file,
        "inputs": {n: tensors[name, n] for n in _INPUTS[name]},
        "outputs": {n: tensors[name, n] for n in _OUTPUTS[name]},
    }


def normalisation_sha256() -> str:
    """Return the hash of the constants that bring state values to order one."""
    text = json.dumps({"centre": STATE_CENTRE, "scale": STATE_SCALE, "pixels": [127.5, 1.0]})
    return hashlib.sha256(text.encode()).hexdigest()


_INPUTS = {
    "slow": ("image", "tokens"),
    "fast": ("latent", "latent_age_s", "state", "image"),
    "chunk": ("image", "tokens", "state"),
    "cells": ("scene", "origin"),
    "fuse": ("features", "image", "tokens"),
}
_OUTPUTS = {
    "slow": ("latent",),
    "fast": ("actions", "done"),
    "chunk": ("actions", "done"),
    "cells": ("features",),
    "fuse": ("latent",),
}


def describe_tensors(
    config: ModelConfig, told_up_to_s: float = TOLD_UP_TO_S
) -> Mapping[tuple[str, str], dict[str, Any]]:
    """Return what every tensor of every graph is."""
    images = _tensor("images", "uint8", (N_VIEWS, SIDE_PX, SIDE_PX, 3))
    images |= {"cameras": list(CAMERAS), "resize": "none"}
    small = _tensor("images", "uint8", (*WRIST_SHAPE, 3))
    small |= {"cameras": [CAMERAS[1]], "resize": "area", "crop_px": [0, _CUT_ROWS, 0, 0]}
    tokens = _tensor("instruction", "int64", (MAX_TOKENS,))
    tokens |= {"vocabulary": VOCABULARY_FILE, "tokenizer": "words", "grammar": "pick_place"}
    state = _tensor("state", "float32", (STATE_SIZE,)) | {"fields": list(STATE_FIELDS)}
    latent = _tensor("latent", "float32", (config.tokens, config.token_dim))
    actions = _tensor("actions", "float32", (CHUNK_ROWS, ACTION_SIZE))
    done = _tensor("done", "float32", (1,))
    scene = _tensor("images", "uint8", (*SCENE_SHAPE, 3)) | {"steps": [0, CELL_PX, CELL_PX, 0]}
    scene |= {"cameras": [CAMERAS[0]], "resize": "none"}
    scene |= {"crop_px": [SCENE_ROWS[0], SIDE_PX - SCENE_ROWS[1], 0, 0]}
    wrist = _tensor("images", "uint8", (SIDE_PX, SIDE_PX, 3))
    wrist |= {"cameras": [CAMERAS[1]], "resize": "none"}
    features = _tensor("features", "float32", (config.channels, *CELLS))
    age = _tensor("latent_age_s", "float32", (1,)) | {"told_up_to_s": told_up_to_s}
    return {
        ("slow", "image"): images,
        ("slow", "tokens"): tokens,
        ("slow", "latent"): latent,
        ("fast", "latent"): latent,
        ("fast", "latent_age_s"): age,
        ("fast", "state"): state,
        ("fast", "image"): small,
        ("fast", "actions"): actions,
        ("fast", "done"): done,
        ("chunk", "image"): images,
        ("chunk", "tokens"): tokens,
        ("chunk", "state"): state,
        ("chunk", "actions"): actions,
        ("chunk", "done"): done,
        ("cells", "scene"): scene,
        ("cells", "origin"): _tensor("part_origin", "int64", (2,)),
        ("cells", "features"): features | {"steps": [0, 0, 1, 1]},
        ("fuse", "features"): features,
        ("fuse", "image"): wrist,
        ("fuse", "tokens"): tokens,
        ("fuse", "latent"): latent,
    }


def _tensor(role: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    return {"role": role, "dtype": dtype, "shape": [1, *shape]}
