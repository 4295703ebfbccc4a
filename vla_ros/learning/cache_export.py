# SPDX-License-Identifier: Apache-2.0
"""The slow half in two graphs, of which the first can be run on a part of the scene alone.

    cells   a part of the scene, of any size, and where it begins, to the trunk's map of it
    fuse    the map of the whole scene, wrist image and words to the latent

The map knows no words, and a cell of it sees ``halo_cells`` around it. They are run by
``policies.onnx.cached_slow``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.learning.graph_spec import GraphSpec
from vla_ros.learning.model import shrunk
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.ops import constant, images_to_float, to_cells
from vla_ros.learning.parameters import Arrays, to_tensors
from vla_ros.learning.trunk import latent_of, point, see_part
from vla_ros.learning.views import CELL_PX, CELLS, SIDE_PX, table_grid

if TYPE_CHECKING:
    from torch import Tensor

_MOST = (16, 20)  # rows and columns of parts that are made up


def cache_specs(weights: Arrays, config: ModelConfig) -> tuple[GraphSpec, GraphSpec]:
    """Return graphs ``cells`` and ``fuse`` of a model."""
    p = to_tensors(weights, trained=False)

    def cells(scene: Tensor, origin: Tensor) -> tuple[Tensor, ...]:
        import torch

        part = images_to_float(scene)
        rows, columns = (
            torch.arange(scene.shape[1 + axis] // CELL_PX) + origin[0, axis] for axis in (0, 1)
        )
        grid = constant(table_grid(), part).index_select(0, rows).index_select(1, columns)
        return (see_part(p, config, part, grid),)

    def fuse(features: Tensor, image: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        known = to_cells(features)
        wrist = images_to_float(shrunk(image))
        return (latent_of(p, config, known, point(p, known, tokens), wrist),)

    def drawn_features(random: np.random.Generator) -> NDArray[Any]:
        return random.exponential(size=(1, config.channels, *CELLS)).astype(np.float32)

    return (
        GraphSpec(
            "cells",
            ("scene", "origin"),
            ("features",),
            cells,
            drawn={"scene": _drawn_part, "origin": _drawn_origin},
            dynamic_shapes=_dynamic,
        ),
        GraphSpec(
            "fuse",
            ("features", "image", "tokens"),
            ("latent",),
            fuse,
            drawn={"features": drawn_features, "image": _drawn_wrist},
        ),
    )


def _dynamic() -> Any:
    """Return which sizes of the inputs of ``cells`` differ from call to call, for PyTorch."""
    import torch

    rows, columns = (
        torch.export.Dim(name, max=most)
        for name, most in zip(("rows", "columns"), CELLS, strict=True)
    )
    return ({1: CELL_PX * rows, 2: CELL_PX * columns}, None)


def _drawn_part(random: np.random.Generator) -> NDArray[Any]:
    rows, columns = (int(n) for n in random.integers(4, _MOST, endpoint=True))
    size = (1, CELL_PX * rows, CELL_PX * columns, 3)
    return random.integers(0, 256, size, dtype=np.uint8)


def _drawn_origin(random: np.random.Generator) -> NDArray[Any]:
    last = [most - size for most, size in zip(CELLS, _MOST, strict=True)]
    return random.integers(0, last, (1, 2), endpoint=True)


def _drawn_wrist(random: np.random.Generator) -> NDArray[Any]:
    return random.integers(0, 256, (1, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
