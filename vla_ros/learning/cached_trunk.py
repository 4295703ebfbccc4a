# SPDX-License-Identifier: Apache-2.0
"""The slow half with a cache: of the scene, only what a change reaches goes through the trunk.

The trunk's map of the scene knows no words, and a cell of it sees ``halo_cells`` around it: what is
far from a change stays as it was. Words, wrist image and what is read from the map are computed
anew for every image. Two graphs in place of one: ``cells`` (a part of the scene, of any size, to
its map) and ``fuse`` (map, wrist and words to the latent).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning.checkpoint import load_checkpoint
from vla_ros.learning.export import OPSET, read_weights
from vla_ros.learning.model import small_wrist
from vla_ros.learning.ops import images_to_float, to_cells
from vla_ros.learning.parameters import to_tensors
from vla_ros.learning.trunk import halo_cells, latent_of, point, see_part
from vla_ros.learning.views import CELL_PX, CELLS, SIDE_PX, crop_scene, table_grid
from vla_ros.learning.vocabulary import MAX_TOKENS
from vla_ros.policies.base import Tensors
from vla_ros.policies.features.cache import CacheCount, FeatureCacheConfig
from vla_ros.policies.features.regions import RegionCache
from vla_ros.policies.tokens import WordTokenizer
from vla_ros.types import CameraFrame, Observation

if TYPE_CHECKING:
    from torch import Tensor

CELLS_FILE, FUSE_FILE, WORDS_FILE = "cells.onnx", "fuse.onnx", "vocabulary.json"
_ABOUT = "halo.txt"
_CAMERAS = ("scene_camera", "wrist_camera")


def export_cached(checkpoint: Path, folder: Path) -> None:
    """Write both graphs of a checkpoint, its words and its halo into a folder.

    Raises:
        ConfigError: if the checkpoint is damaged or not of this model.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    weights, config, words = read_weights(load_checkpoint(checkpoint))
    p = to_tensors(weights, trained=False)

    class Cells(torch.nn.Module):  # type: ignore[misc, unused-ignore]  # no types without torch
        def forward(self, scene: Tensor, grid: Tensor) -> Tensor:
            return see_part(p, config, images_to_float(scene), grid)

    class Fuse(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def forward(self, cells: Tensor, image: Tensor, tokens: Tensor) -> Tensor:
            known = to_cells(cells)
            pointed = point(p, known, tokens)
            return latent_of(p, config, known, pointed, images_to_float(small_wrist(image)))

    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = (
        torch.export.Dim("rows", max=CELLS[0]),
        torch.export.Dim("columns", max=CELLS[1]),
    )
    part = (
        torch.zeros(1, 16 * CELL_PX, 20 * CELL_PX, 3, dtype=torch.uint8),
        torch.zeros(16, 20, 2),
    )
    shapes = ({1: CELL_PX * rows, 2: CELL_PX * columns}, {0: rows, 1: columns})
    _export(Cells(), part, ("scene", "grid"), "cells", folder / CELLS_FILE, shapes)
    whole = (
        torch.zeros(1, config.channels, *CELLS),
        torch.zeros(1, 2, SIDE_PX, SIDE_PX, 3, dtype=torch.uint8),
        torch.zeros(1, MAX_TOKENS, dtype=torch.int64),
    )
    _export(Fuse(), whole, ("cells", "image", "tokens"), "latent", folder / FUSE_FILE, None)
    (folder / WORDS_FILE).write_text(words.to_json(), encoding="utf-8")
    (folder / _ABOUT).write_text(f"{halo_cells(config)}\n", encoding="utf-8")


class CachedTrunkPolicy:
    """A ``SlowPolicy`` of ``export_cached``, on the CPU.

    Args:
        folder: of the graphs.
        config: when the map may be reused.

    Attributes:
        last, total: cells that were known, unchanged, computed, of the last image and of all.
        written: (28, 56) cells of the scene that are those of the last image.
    """

    name = "cached trunk"
    cameras = _CAMERAS
    max_age_s = 6.0

    def __init__(self, folder: Path, config: FeatureCacheConfig | None = None) -> None:
        self._cells, self._fuse = (_open(folder / name) for name in (CELLS_FILE, FUSE_FILE))
        words = folder / WORDS_FILE
        self._words = WordTokenizer.from_json(words.read_bytes(), MAX_TOKENS, str(words))
        halo = int((folder / _ABOUT).read_text(encoding="utf-8"))
        self._cache = RegionCache(CELL_PX, halo, config)
        self._grid = table_grid()
        self.last = self.total = CacheCount()
        self.written = np.zeros(CELLS, dtype=bool)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if a word is unknown."""
        self._words.encode(instruction)

    def reset(self) -> None:
        """Forget the map: a new episode or instruction begins."""
        self._cache.clear()

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent.

        Raises:
            PolicyError: if an image is missing.
            InstructionError: if a word is unknown.
        """
        frames = [_frame(observation, name) for name in _CAMERAS]
        scene = crop_scene(frames[0].rgb)
        work = self._cache.look(scene)
        computed: NDArray[np.float32] | None = None
        if work.read is not None:
            rows, columns = work.read.slices
            part = scene[
                CELL_PX * rows.start : CELL_PX * rows.stop,
                CELL_PX * columns.start : CELL_PX * columns.stop,
            ]
            feeds = {"scene": part[None], "grid": self._grid[rows, columns]}
            computed = self._cells.run(["cells"], feeds)[0][0]
        cells = self._cache.store(work, computed)
        self.last = work.count
        self.written[:] = False
        if work.write is not None:
            self.written[work.write.slices] = True
        self.total = self.total + work.count
        feeds = {
            "cells": cells[None],
            "image": np.stack([frame.rgb for frame in frames])[None],
            "tokens": self._words.encode(observation.instruction)[None],
        }
        return {"latent": self._fuse.run(["latent"], feeds)[0]}

    def diagnostics(self) -> dict[str, float | str]:
        """Return hit rate and reuse ratio of the scene's cells."""
        return {
            "feature_hit_rate": self.total.hit_rate,
            "feature_reuse_ratio": self.total.reuse_ratio,
            "feature_reuse_ratio_last": self.last.reuse_ratio,
        }


def _frame(observation: Observation, camera: str) -> CameraFrame:
    frame = observation.frames.get(camera)
    if frame is None:
        raise PolicyError(f"no image of {camera!r}; got {sorted(observation.frames) or 'none'}")
    return frame


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("onnxruntime is missing: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _export(
    module: Any, inputs: Any, names: tuple[str, ...], output: str, path: Path, shapes: Any
) -> None:
    import torch

    program = torch.onnx.export(
        module.eval(),
        inputs,
        input_names=list(names),
        output_names=[output],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=shapes,
        verbose=False,
    )
    if program is None:
        raise PolicyError(f"PyTorch exported nothing for {path.name}")
    program.save(path, external_data=False)
