# SPDX-License-Identifier: Apache-2.0
"""Tiny exports whose outputs can be worked out by hand, and observations to feed them with."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.manifest.write import write_manifest
from vla_ros.types import (
    CameraFrame,
    CameraIntrinsics,
    ControlMode,
    Latent,
    Observation,
    RobotState,
)

MS = 1_000_000
NOW = 10_000 * MS
H, A, L = 8, 10, 7
DT_NS = 50 * MS
SIZE = 12  # of the network's images [px]
WORDS = ("bowl", "cube", "in", "put", "red", "the")
VOCABULARY = {"<pad>": 0, "<unk>": 1} | {word: i + 2 for i, word in enumerate(WORDS)}
TEXT = "put the red cube in the bowl"
STATE_FIELDS = ["ref_position_m", "gripper_width_m"]

# Rows that move 1 cm along x each, hand straight down, fingers at 4 cm.
BASE_ROWS = np.zeros((1, H, A), dtype=np.float32)
BASE_ROWS[0, :, 0] = 0.01 * np.arange(H)
BASE_ROWS[0, :, 3:9] = [1, 0, 0, 0, -1, 0]
BASE_ROWS[0, :, 9] = 0.04
AGE_TO_Y, LATENT_TO_Z = 0.1, 0.02


def tensor(name: str, dtype: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, value: object, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def slow_model(batch: int | str = 1) -> onnx.ModelProto:
    """latent[0, 0] = (brightness 0 to 1, sum of the tokens, 0, 0)."""
    return model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["grey"], axes=[1, 2, 3, 4], keepdims=0),
            helper.make_node("Div", ["grey", "white"], ["brightness"]),
            helper.make_node("Cast", ["tokens"], ["tokens_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["tokens_f", "one"], ["words"], keepdims=0),
            helper.make_node("Reshape", ["brightness", "column"], ["b"]),
            helper.make_node("Reshape", ["words", "column"], ["w"]),
            helper.make_node("Concat", ["b", "w", "zeros"], ["latent"], axis=2),
        ],
        [
            tensor("image", TensorProto.UINT8, [batch, 2, SIZE, SIZE, 3]),
            tensor("tokens", TensorProto.INT64, [batch, L]),
        ],
        [tensor("latent", TensorProto.FLOAT, [batch, 1, 4])],
        [
            constant("white", 255.0),
            constant("one", [1], np.int64),
            constant("column", [1, 1, 1], np.int64),
            constant("zeros", np.zeros((1, 1, 2))),
        ],
    )


def fast_model(base_rows: Any = BASE_ROWS) -> onnx.ModelProto:
    """Base rows, moved by the latent's age along y and by the brightness along z."""
    to_y, to_z = np.zeros((1, A)), np.zeros((4, A))
    to_y[0, 1], to_z[0, 2] = AGE_TO_Y, LATENT_TO_Z
    return model(
        [
            helper.make_node("MatMul", ["latent_age_s", "to_y"], ["y"]),
            helper.make_node("MatMul", ["latent", "to_z"], ["z"]),
            helper.make_node("Add", ["base", "y"], ["moved"]),
            helper.make_node("ReduceSum", ["state"], ["s"], keepdims=1),
            helper.make_node("Mul", ["s", "nothing"], ["s0"]),
            helper.make_node("Add", ["moved", "s0"], ["sensed"]),
            helper.make_node("Mul", ["noise", "nothing"], ["n0"]),
            helper.make_node("Add", ["sensed", "n0"], ["noisy"]),
            helper.make_node("Add", ["noisy", "z"], ["actions"]),
        ],
        [
            tensor("latent", TensorProto.FLOAT, [1, 1, 4]),
            tensor("latent_age_s", TensorProto.FLOAT, [1, 1]),
            tensor("state", TensorProto.FLOAT, [1, 4]),
            tensor("noise", TensorProto.FLOAT, [1, H, A]),
        ],
        [tensor("actions", TensorProto.FLOAT, [1, H, A])],
        [
            constant("to_y", to_y),
            constant("to_z", to_z),
            constant("base", base_rows),
            constant("nothing", 0.0),
        ],
    )


def wrist_model() -> onnx.ModelProto:
    """Base rows, lifted by the brightness of a small image, 0 to 1 m."""
    to_z = np.zeros((1, A))
    to_z[0, 2] = 1.0
    return model(
        [
            helper.make_node("Cast", ["wrist"], ["wrist_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["wrist_f"], ["grey"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Div", ["grey", "white"], ["light"]),
            helper.make_node("Reshape", ["light", "single"], ["light2"]),
            helper.make_node("MatMul", ["light2", "to_z"], ["z"]),
            helper.make_node("Add", ["base", "z"], ["actions"]),
        ],
        [tensor("wrist", TensorProto.UINT8, [1, 4, 4, 3])],
        [tensor("actions", TensorProto.FLOAT, [1, H, A])],
        [
            constant("white", 255.0),
            constant("single", [1, 1], np.int64),
            constant("to_z", to_z),
            constant("base", BASE_ROWS),
        ],
    )


def endless_model() -> onnx.ModelProto:
    """Rows that take for ever: a loop of 2^62 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["x", "x"], ["twice"]),
        ],
        "body",
        [
            tensor("i", TensorProto.INT64, []),
            tensor("go", TensorProto.BOOL, []),
            tensor("x", TensorProto.FLOAT, [1, H, A]),
        ],
        [tensor("go_on", TensorProto.BOOL, []), tensor("twice", TensorProto.FLOAT, [1, H, A])],
    )
    made = fast_model()
    nodes = [*made.graph.node]
    nodes[-1].output[0] = "rows"
    nodes.append(helper.make_node("Loop", ["turns", "true", "rows"], ["actions"], body=body))
    constants = [
        *made.graph.initializer,
        constant("turns", 2**62, np.int64),
        constant("true", True, np.bool_),
    ]
    return model(nodes, [*made.graph.input], [*made.graph.output], constants)


SPLIT: dict[str, Any] = {
    "name": "tiny",
    "kind": "split",
    "max_age_s": 2.0,
    "normalisation_sha256": "0" * 64,
    "graphs": {
        "slow": {
            "file": "slow.onnx",
            "inputs": {
                "image": {
                    "role": "images",
                    "dtype": "uint8",
                    "shape": [1, 2, SIZE, SIZE, 3],
                    "cameras": ["scene", "wrist"],
                },
                "tokens": {
                    "role": "instruction",
                    "dtype": "int64",
                    "shape": [1, L],
                    "vocabulary": "vocabulary.json",
                },
            },
            "outputs": {"latent": {"role": "latent", "dtype": "float32", "shape": [1, 1, 4]}},
        },
        "fast": {
            "file": "fast.onnx",
            "inputs": {
                "latent": {"role": "latent", "dtype": "float32", "shape": [1, 1, 4]},
                "latent_age_s": {"role": "latent_age_s", "dtype": "float32", "shape": [1, 1]},
                "state": {
                    "role": "state",
                    "dtype": "float32",
                    "shape": [1, 4],
                    "fields": STATE_FIELDS,
                },
                "noise": {"role": "noise", "dtype": "float32", "shape": [1, H, A]},
            },
            "outputs": {"actions": {"role": "actions", "dtype": "float32", "shape": [1, H, A]}},
        },
    },
    "actions": {"rows": H, "dt_s": 0.05, "rotation_format": "rotation_6d"},
    "abilities": {"age_input": True},
    "files": ["vocabulary.json"],
}


def description(**changes: Any) -> dict[str, Any]:
    """What the manifest of the split policy says; keys with dots reach into it."""
    data = copy.deepcopy(SPLIT)
    for path, value in changes.items():
        *parents, key = path.split("__")
        at = data
        for parent in parents:
            at = at[parent]
        at[key] = value
    return data


def write_split(
    folder: Path,
    *,
    slow: onnx.ModelProto | None = None,
    fast: onnx.ModelProto | None = None,
    **changes: Any,
) -> Path:
    """Write the split policy into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slow.onnx").write_bytes((slow or slow_model()).SerializeToString())
    (folder / "fast.onnx").write_bytes((fast or fast_model()).SerializeToString())
    (folder / "vocabulary.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    write_manifest(folder, description(**changes))
    return folder


def write_wrist(folder: Path, **write: Any) -> Path:
    """Write a split policy whose fast half sees nothing but a small image of the wrist."""
    wrist = {"role": "images", "dtype": "uint8", "shape": [1, 4, 4, 3], "cameras": ["wrist"]}
    return write_split(
        folder,
        graphs__fast__inputs={"wrist": wrist},
        abilities={"age_input": False},
        **write,
    )


def frame(name: str = "scene", value: int = 51, capture_ns: int = NOW, size: int = 24):
    return CameraFrame(
        name=name,
        rgb=np.full((size, size, 3), value, dtype=np.uint8),
        depth_m=None,
        intrinsics=CameraIntrinsics(width=size, height=size, fx=1.0, fy=1.0, cx=0.0, cy=0.0),
        T_base_camera=np.eye(4),
        capture_ns=capture_ns,
    )


def robot_state(position=(0.4, 0.1, 0.3), **changes: Any) -> RobotState:
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, 3] = position
    values: dict[str, Any] = {
        "seq": 1,
        "tick_ns": NOW,
        "mode": ControlMode.TRACK,
        "q": np.zeros(7),
        "dq": np.zeros(7),
        "tau": np.zeros(7),
        "T_base_ee": T,
        "twist_base": np.zeros(6),
        "T_base_ref": T,
        "twist_ref_base": np.zeros(6),
        "gripper_width_m": 0.08,
        "gripper_target_m": 0.08,
    }
    return RobotState(**{**values, **changes})


def observation(instruction: str = TEXT, frames: Any = None, **state: Any) -> Observation:
    if frames is None:
        frames = (frame("scene"), frame("wrist"))
    return Observation(
        state=robot_state(**state),
        instruction=instruction,
        instruction_id=1,
        episode_id=1,
        frames={f.name: f for f in frames},
    )


def latent(value: float = 0.2, age_ms: int = 100, **tensors: Any) -> Latent:
    stamp = LatencyStamp(
        kind=StampKind.LATENT,
        episode_id=1,
        instruction_id=1,
        capture_oldest_ns=NOW - age_ms * MS,
        hard_expire_ns=NOW + 1000 * MS,
    )
    values = np.array([[[value, 0.0, 0.0, 0.0]]], dtype=np.float32)
    return Latent(tensors={"latent": values, **tensors}, stamp=stamp)


def cancels_at_once(what, cancel):
    cancel()
    return contextlib.nullcontext()
