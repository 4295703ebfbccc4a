# SPDX-License-Identifier: Apache-2.0
"""A split policy with a cache, of graphs small enough to work out by hand; made without PyTorch.

The scene has 5 x 6 cells of 4 px below four rows that nobody looks at. A cell's feature is a
weighted sum over it and its eight neighbours, times a number that depends on where it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_samples import L, constant, model, tensor, write_split

PX, ROWS, COLUMNS, CUT_PX = 4, 5, 6, 4
HEIGHT, WIDTH = PX * ROWS, PX * COLUMNS
FEATURES = [1, 1, ROWS, COLUMNS]


def _cells_nodes(scene: str, origin: str) -> list[Any]:
    places = []
    for axis, (name, dimension) in enumerate((("rows", 2), ("columns", 3))):
        places += [
            helper.make_node("Gather", ["size", f"axis{dimension}"], [f"n_{name}"]),
            helper.make_node("Range", ["zero", f"n_{name}", "one"], [f"range_{name}"]),
            helper.make_node("Gather", [origin, f"axis{axis}"], [f"first_{name}"], axis=1),
            helper.make_node("Add", [f"range_{name}", f"first_{name}"], [f"at_{name}"]),
            helper.make_node("Gather", [f"table_{name}", f"at_{name}"], [f"w_{name}"]),
            helper.make_node("Reshape", [f"w_{name}", f"shape{axis}"], [f"weight_{name}"]),
        ]
    return [
        helper.make_node("Cast", [scene], ["scene_f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["scene_f"], ["scene_c"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["scene_c", "stem"], ["stemmed"], strides=[PX, PX]),
        helper.make_node("Conv", ["stemmed", "around"], ["mixed"], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["stemmed"], ["size"]),
        *places,
        helper.make_node("Mul", ["mixed", "weight_rows"], ["by_row"]),
        helper.make_node("Mul", ["by_row", "weight_columns"], ["features"]),
    ]


def _cells_constants(seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    whole = np.int64
    return [
        constant("stem", random.normal(size=(1, 3, PX, PX)) / 255.0),
        constant("around", random.normal(size=(1, 1, 3, 3))),
        constant("table_rows", random.uniform(0.5, 2.0, ROWS)),
        constant("table_columns", random.uniform(0.5, 2.0, COLUMNS)),
        *(constant(f"axis{i}", i, whole) for i in range(4)),
        constant("zero", 0, whole),
        constant("one", 1, whole),
        constant("shape0", [-1, 1], whole),
        constant("shape1", [1, -1], whole),
    ]


def _fuse_nodes(wrist: str) -> list[Any]:
    """latent[0, 0] = (scene, wrist, words, scene times words)."""
    return [
        helper.make_node("ReduceMean", ["features"], ["scene_mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["scene_mean", "column"], ["s"]),
        helper.make_node("Cast", [wrist], ["wrist_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wrist_f"], ["wrist_mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["wrist_mean", "column"], ["v"]),
        helper.make_node("Cast", ["tokens"], ["tokens_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["tokens_f", "second"], ["words"], keepdims=0),
        helper.make_node("Reshape", ["words", "column"], ["w"]),
        helper.make_node("Mul", ["s", "w"], ["sw"]),
        helper.make_node("Concat", ["s", "v", "w", "sw"], ["latent"], axis=2),
    ]


def _fuse_constants() -> list[Any]:
    return [constant("column", [1, 1, 1], np.int64), constant("second", [1], np.int64)]


TOKENS = tensor("tokens", TensorProto.INT64, [1, L])
LATENT = tensor("latent", TensorProto.FLOAT, [1, 1, 4])


def cells_model(seed: int = 0, height: int | str = "4*rows", least: int = 1) -> onnx.ModelProto:
    """A part of the scene to its features; ``height`` and ``least`` make wrong ones."""
    nodes = _cells_nodes("scene", "origin")
    if least > 1:
        nodes[-1].output[0] = "right"
        nodes += [
            helper.make_node("Shape", ["right"], ["found"]),
            helper.make_node("Max", ["found", "least"], ["wrong"]),
            helper.make_node("Expand", ["right", "wrong"], ["features"]),
        ]
    return model(
        nodes,
        [
            tensor("scene", TensorProto.UINT8, [1, height, "4*columns", 3]),
            tensor("origin", TensorProto.INT64, [1, 2]),
        ],
        [tensor("features", TensorProto.FLOAT, [1, 1, "rows", "columns"])],
        [*_cells_constants(seed), constant("least", [1, 1, least, 1], np.int64)],
    )


def fuse_model() -> onnx.ModelProto:
    """Features, wrist image and words to the latent."""
    return model(
        _fuse_nodes("wrist"),
        [
            tensor("features", TensorProto.FLOAT, FEATURES),
            tensor("wrist", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3]),
            TOKENS,
        ],
        [LATENT],
        _fuse_constants(),
    )


def slow_model(seed: int = 0) -> onnx.ModelProto:
    """Both, one after the other, of the whole scene."""
    return model(
        [
            helper.make_node("Gather", ["image", "axis0"], ["scene"], axis=1),
            helper.make_node("Gather", ["image", "axis1"], ["wrist"], axis=1),
            *_cells_nodes("scene", "origin"),
            *_fuse_nodes("wrist"),
        ],
        [tensor("image", TensorProto.UINT8, [1, 2, HEIGHT, WIDTH, 3]), TOKENS],
        [LATENT],
        [
            *_cells_constants(seed),
            *_fuse_constants(),
            constant("origin", [[0, 0]], np.int64),
        ],
    )


def _seen(camera: str, *shape: int) -> dict[str, Any]:
    return {
        "role": "images",
        "dtype": "uint8",
        "shape": [1, *shape, 3],
        "cameras": [camera],
        "crop_px": [CUT_PX, 0, 0, 0],
        "resize": "none",
    }


def cache_section() -> dict[str, Any]:
    """What the manifest says of the cache."""
    tokens = {
        "role": "instruction",
        "dtype": "int64",
        "shape": [1, L],
        "vocabulary": "vocabulary.json",
    }
    features = {"role": "features", "dtype": "float32", "shape": FEATURES}
    scene = _seen("scene", HEIGHT, WIDTH) | {"steps": [0, PX, PX, 0]}
    origin = {"role": "part_origin", "dtype": "int64", "shape": [1, 2]}
    return {
        "cell_px": PX,
        "halo_cells": 1,
        "cells": {
            "file": "cache/cells.onnx",
            "inputs": {"scene": scene, "origin": origin},
            "outputs": {"features": features | {"steps": [0, 0, 1, 1]}},
        },
        "fuse": {
            "file": "cache/fuse.onnx",
            "inputs": {
                "features": features,
                "wrist": _seen("wrist", HEIGHT, WIDTH),
                "tokens": tokens,
            },
            "outputs": {"latent": {"role": "latent", "dtype": "float32", "shape": [1, 1, 4]}},
        },
    }


def write_cached(
    folder: Path,
    *,
    seed: int = 0,
    cells: onnx.ModelProto | None = None,
    section: Any = None,
    **changes: Any,
) -> Path:
    """Write the policy with its cache into a folder; return the folder."""
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "cells.onnx").write_bytes((cells or cells_model(seed)).SerializeToString())
    (folder / "cache" / "fuse.onnx").write_bytes(fuse_model().SerializeToString())
    image = _seen("scene", 2, HEIGHT, WIDTH) | {"cameras": ["scene", "wrist"]}
    return write_split(
        folder,
        slow=slow_model(seed),
        graphs__slow__inputs__image=image,
        cache=section or cache_section(),
        **changes,
    )
