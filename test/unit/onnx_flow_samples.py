# SPDX-License-Identifier: Apache-2.0
"""An export in one piece with candidates, energies, prefix and a velocity; by hand, like the other.

Its flow goes straight to the base rows: v = (rows - x) / (1 - t), in model space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_samples import BASE_ROWS, A, H, constant, model, tensor

from vla_ros.policies.manifest.write import write_manifest

K = 3
STEPS = 5
ENERGIES = np.array([[2.0, -1.0, 0.5]], dtype=np.float32)
SHIFTS_M = np.array([0.0, 0.1, 0.2])  # of the candidates, along y
SCALE = np.full(A, 0.5)
ROWS = [1, H, A]


def chunk_model() -> onnx.ModelProto:
    """K candidates, each the base rows at another y; rows of the prefix are copied."""
    shifts = np.zeros((1, K, 1, A))
    shifts[0, :, 0, 1] = SHIFTS_M
    return model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["grey"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Div", ["grey", "white"], ["light"]),
            helper.make_node("Reshape", ["light", "single"], ["done"]),
            helper.make_node("Less", ["numbers", "prefix_rows"], ["given"]),
            helper.make_node("Unsqueeze", ["given", "last"], ["given3"]),
            helper.make_node("Where", ["given3", "prefix", "base"], ["rows"]),
            helper.make_node("Unsqueeze", ["rows", "second"], ["rows4"]),
            helper.make_node("Add", ["rows4", "shifts"], ["actions"]),
            helper.make_node("Identity", ["energies"], ["energy"]),
            helper.make_node("Sub", ["one", "done"], ["uncertainty"]),
        ],
        [
            tensor("image", TensorProto.UINT8, [1, 4, 6, 3]),
            tensor("prefix", TensorProto.FLOAT, ROWS),
            tensor("prefix_rows", TensorProto.INT64, [1, 1]),
        ],
        [
            tensor("actions", TensorProto.FLOAT, [1, K, H, A]),
            tensor("energy", TensorProto.FLOAT, [1, K]),
            tensor("uncertainty", TensorProto.FLOAT, [1, 1]),
            tensor("done", TensorProto.FLOAT, [1, 1]),
        ],
        [
            constant("white", 255.0),
            constant("single", [1, 1], np.int64),
            constant("numbers", np.arange(H)[None], np.int64),
            constant("last", [2], np.int64),
            constant("second", [1], np.int64),
            constant("base", BASE_ROWS),
            constant("shifts", shifts),
            constant("energies", ENERGIES),
            constant("one", [[1.0]]),
        ],
    )


def velocity_model() -> onnx.ModelProto:
    """The straight flow and its Jacobian, -1 / (1 - t) times the identity."""
    return model(
        [
            helper.make_node("Sub", ["one", "t"], ["left"]),
            helper.make_node("Sub", ["target", "x"], ["way"]),
            helper.make_node("Div", ["way", "left"], ["velocity"]),
            helper.make_node("Div", ["cotangent", "left"], ["scaled"]),
            helper.make_node("Neg", ["scaled"], ["vjp"]),
        ],
        [
            tensor("x", TensorProto.FLOAT, ROWS),
            tensor("t", TensorProto.FLOAT, [1, 1]),
            tensor("cotangent", TensorProto.FLOAT, ROWS),
        ],
        [
            tensor("velocity", TensorProto.FLOAT, ROWS),
            tensor("vjp", TensorProto.FLOAT, ROWS),
        ],
        [constant("one", [[1.0]]), constant("target", BASE_ROWS / SCALE)],
    )


def spec(role: str, shape: list[int], dtype: str = "float32", **more: Any) -> dict[str, Any]:
    return {"role": role, "dtype": dtype, "shape": shape, **more}


def chunk_description() -> dict[str, Any]:
    return {
        "name": "whole",
        "kind": "chunk",
        "max_age_s": 1.0,
        "normalisation_sha256": "1" * 64,
        "graphs": {
            "chunk": {
                "file": "chunk.onnx",
                "inputs": {
                    "image": spec(
                        "images", [1, 4, 6, 3], "uint8", cameras=["scene"], max_age_s=0.2
                    ),
                    "prefix": spec("prefix", ROWS),
                    "prefix_rows": spec("prefix_rows", [1, 1], "int64"),
                },
                "outputs": {
                    "actions": spec("actions", [1, K, H, A]),
                    "energy": spec("energy", [1, K]),
                    "uncertainty": spec("uncertainty", [1, 1]),
                    "done": spec("done", [1, 1]),
                },
            },
            "velocity": {
                "file": "velocity.onnx",
                "inputs": {
                    "x": spec("flow_rows", ROWS),
                    "t": spec("flow_time", [1, 1]),
                    "cotangent": spec("cotangent", ROWS),
                },
                "outputs": {
                    "velocity": spec("velocity", ROWS),
                    "vjp": spec("vjp", ROWS),
                },
            },
        },
        "actions": {"rows": H, "dt_s": 0.05, "done_threshold": 0.9},
        "abilities": {
            "prefix_rows_max": 4,
            "denoising_steps": STEPS,
            "vjp": True,
            "candidates": K,
            "ranking": "energy",
            "uncertainty": True,
        },
        "model_space": {"mean": [0.0] * A, "scale": SCALE.tolist()},
    }


def write_chunk(folder: Path) -> Path:
    """Write the policy into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chunk.onnx").write_bytes(chunk_model().SerializeToString())
    (folder / "velocity.onnx").write_bytes(velocity_model().SerializeToString())
    write_manifest(folder, chunk_description())
    return folder


# A flow to N(base rows, 1) in model space, whose velocity is told the base rows by ``chunk``:
#   D = b + t (x - t b) / (t^2 + (1 - t)^2),  v = (D - x) / (1 - t), nothing for clean rows
FLOW_STEPS = 10
FLOW_SCALE_M = 0.02
PREFIX_MAX = 5
FLOW_CANDIDATES = [1, K, H, A]
_MOVES = np.array([1.0] * 3 + [0.0] * (A - 3), dtype=np.float32)  # only positions scatter


def sampling_model() -> onnx.ModelProto:
    """K candidates: base rows and noise. What the velocity stands on comes beside them."""
    return model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["grey"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Div", ["grey", "white"], ["light"]),
            helper.make_node("Reshape", ["light", "single"], ["done"]),
            helper.make_node("Mul", ["noise", "spread"], ["scattered"]),
            helper.make_node("Add", ["scattered", "base4"], ["actions"]),
            helper.make_node("Div", ["base", "scale"], ["seen"]),
        ],
        [
            tensor("image", TensorProto.UINT8, [1, 4, 6, 3]),
            tensor("noise", TensorProto.FLOAT, FLOW_CANDIDATES),
        ],
        [
            tensor("actions", TensorProto.FLOAT, FLOW_CANDIDATES),
            tensor("done", TensorProto.FLOAT, [1, 1]),
            tensor("seen", TensorProto.FLOAT, ROWS),
        ],
        [
            constant("white", 255.0),
            constant("single", [1, 1], np.int64),
            constant("spread", FLOW_SCALE_M * _MOVES),
            constant("base", BASE_ROWS),
            constant("base4", BASE_ROWS[:, None]),
            constant("scale", _flow_scale()),
        ],
    )


def step_model() -> onnx.ModelProto:
    """The velocity and its Jacobian, which is a number per row and column."""
    return model(
        [
            helper.make_node("Sub", ["one", "t"], ["left"]),
            helper.make_node("Mul", ["t", "t"], ["t2"]),
            helper.make_node("Mul", ["left", "left"], ["left2"]),
            helper.make_node("Add", ["t2", "left2"], ["variance"]),
            helper.make_node("Div", ["t", "variance"], ["share"]),
            helper.make_node("Mul", ["share", "moves"], ["gain"]),
            helper.make_node("Mul", ["t", "seen"], ["mean"]),
            helper.make_node("Sub", ["x", "mean"], ["q"]),
            helper.make_node("Mul", ["gain", "q"], ["more"]),
            helper.make_node("Add", ["seen", "more"], ["clean"]),
            helper.make_node("Sub", ["clean", "x"], ["away"]),
            helper.make_node("Div", ["away", "left"], ["free_velocity"]),
            helper.make_node("Less", ["numbers", "n"], ["given"]),
            helper.make_node("Unsqueeze", ["given", "last"], ["given3"]),
            helper.make_node("Where", ["given3", "zero", "free_velocity"], ["velocity"]),
            helper.make_node("Sub", ["gain", "one"], ["bent"]),
            helper.make_node("Div", ["bent", "left"], ["slope"]),
            helper.make_node("Mul", ["slope", "cotangent"], ["vjp"]),
        ],
        [
            tensor("x", TensorProto.FLOAT, ROWS),
            tensor("t", TensorProto.FLOAT, [1, 1]),
            tensor("n", TensorProto.INT64, [1, 1]),
            tensor("cotangent", TensorProto.FLOAT, ROWS),
            tensor("seen", TensorProto.FLOAT, ROWS),
        ],
        [
            tensor("velocity", TensorProto.FLOAT, ROWS),
            tensor("vjp", TensorProto.FLOAT, ROWS),
        ],
        [
            constant("one", [[1.0]]),
            constant("zero", 0.0),
            constant("moves", _MOVES),
            constant("numbers", np.arange(H)[None], np.int64),
            constant("last", [2], np.int64),
        ],
    )


def flow_description() -> dict[str, Any]:
    return {
        "name": "flowing",
        "kind": "chunk",
        "max_age_s": 1.0,
        "normalisation_sha256": "2" * 64,
        "graphs": {
            "chunk": {
                "file": "chunk.onnx",
                "inputs": {
                    "image": spec("images", [1, 4, 6, 3], "uint8", cameras=["scene"]),
                    "noise": spec("noise", FLOW_CANDIDATES),
                },
                "outputs": {
                    "actions": spec("actions", FLOW_CANDIDATES),
                    "done": spec("done", [1, 1]),
                    "seen": spec("latent", ROWS),
                },
            },
            "velocity": {
                "file": "velocity.onnx",
                "inputs": {
                    "x": spec("flow_rows", ROWS),
                    "t": spec("flow_time", [1, 1]),
                    "n": spec("prefix_rows", [1, 1], "int64"),
                    "cotangent": spec("cotangent", ROWS),
                    "seen": spec("latent", ROWS),
                },
                "outputs": {
                    "velocity": spec("velocity", ROWS),
                    "vjp": spec("vjp", ROWS),
                },
            },
        },
        "actions": {"rows": H, "dt_s": 0.05, "done_threshold": 0.9},
        "abilities": {
            "prefix_rows_max": PREFIX_MAX,
            "denoising_steps": FLOW_STEPS,
            "vjp": True,
            "candidates": K,
        },
        "model_space": {"mean": [0.0] * A, "scale": _flow_scale().tolist()},
    }


def write_flow(folder: Path) -> Path:
    """Write the flow policy into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chunk.onnx").write_bytes(sampling_model().SerializeToString())
    (folder / "velocity.onnx").write_bytes(step_model().SerializeToString())
    write_manifest(folder, flow_description())
    return folder


def _flow_scale() -> np.ndarray:
    return np.where(_MOVES > 0.0, FLOW_SCALE_M, 0.5)
