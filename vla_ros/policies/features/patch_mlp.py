# SPDX-License-Identifier: Apache-2.0
"""A small patch encoder with late fusion: one network per patch, one attention block over all.

    f_i = [chroma_i, MLP(patch_i)]                      per patch, (d,)
    a   = softmax_i(beta * chroma_i . c_word)           one query per colour named
    out = (sum_i a_i f_i, sum_i a_i centre_i)           token and place of what has that colour

The weights are drawn from a seed, not trained. What needs no training is set by hand, so that the
latent means something: the first three features are the chroma of the patch, its colour without
its grey, and the queries are the chromas of the colours that the instruction names. The rest costs
what a trained network would cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import InstructionError
from vla_ros.policies.base import Tensors
from vla_ros.policies.colors import COLOURS
from vla_ros.policies.features.encoder import Features, Patches, weights_version

Weights = NDArray[np.float32]

N_WORDS = 2  # colours of an instruction that are looked for: what to pick, where to place
_CHROMA = 3


@dataclass(frozen=True, kw_only=True)
class PatchMlpConfig:
    """Size of the network and sharpness of its attention."""

    patch_px: int = setting(16, "side of a patch", unit="px", ge=4, le=64)
    width: int = setting(512, "of the hidden layers", ge=4, le=4096)
    layers: int = setting(3, "hidden layers", ge=1, le=16)
    features: int = setting(128, "of a patch", ge=8, le=4096)
    beta: float = setting(40.0, "sharpness of the attention", ge=1.0, le=1000.0)
    seed: int = setting(0, "of the weights", ge=0, le=2**31 - 1)
    max_age_s: float = setting(2.0, "how old an image may be", unit="s", ge=0.05, le=60.0)

    def __post_init__(self) -> None:
        check_fields(self)


class PatchMlpEncoder:
    """A ``PatchEncoder`` with weights from a seed."""

    name = "patch_mlp"

    def __init__(
        self, cameras: tuple[str, ...] = ("scene_camera",), config: PatchMlpConfig | None = None
    ) -> None:
        self._config = config or PatchMlpConfig()
        self.cameras = cameras
        self.patch_px = self._config.patch_px
        self.max_age_s = self._config.max_age_s
        self.load(_drawn(self._config))

    @property
    def version(self) -> str:
        """Return what the weights are known by."""
        return self._version

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Return the matrices of the layers, inputs first."""
        return self._weights

    def load(self, weights: tuple[Weights, ...]) -> None:
        """Replace the weights; features of other weights are no longer reused."""
        self._weights = tuple(np.ascontiguousarray(w, dtype=np.float32) for w in weights)
        self._version = weights_version(self.name, self._weights)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if it names no colour."""
        _colours_of(instruction)

    def encode_patches(self, patches: Patches) -> Features:
        """Return the features (n, d) of patches (n, p, p, 3)."""
        x = patches.reshape(len(patches), -1).astype(np.float32)
        x = x * np.float32(1.0 / 255.0) - np.float32(0.5)
        mean = x.reshape(len(x), -1, 3).mean(axis=1)
        chroma = mean - mean.mean(axis=1, keepdims=True)
        for w in self._weights[:-1]:
            x = np.maximum(x @ w, 0.0)
        features: Features = np.concatenate([chroma, x @ self._weights[-1]], axis=1)
        return features

    def fuse(self, features: Mapping[str, Features], instruction: str) -> Tensors:
        """Return what has the colours named, in each image.

        Returns:
            tokens (cameras, 2, d); places (cameras, 2, 2), x and y as shares of the image, 0 to 1;
            shares (cameras, 2), the largest attention; all 0 where no second colour is named.
        """
        queries = np.stack([_chroma(COLOURS[name].rgb) for name in _colours_of(instruction)])
        n, d = len(self.cameras), self._config.features
        tokens = np.zeros((n, N_WORDS, d), dtype=np.float32)
        places = np.zeros((n, N_WORDS, 2), dtype=np.float32)
        shares = np.zeros((n, N_WORDS), dtype=np.float32)
        for k, camera in enumerate(self.cameras):
            grid = features[camera]
            rows = grid.reshape(-1, d)
            logits: Weights = queries @ rows[:, :_CHROMA].T
            attention = _softmax(self._config.beta * logits)  # (words, P)
            tokens[k, : len(queries)] = attention @ rows
            places[k, : len(queries)] = attention @ _centres(grid.shape[0], grid.shape[1])
            shares[k, : len(queries)] = attention.max(axis=1)
        return {"tokens": tokens, "places": places, "shares": shares}


def _drawn(c: PatchMlpConfig) -> tuple[Weights, ...]:
    """Return weights that keep the size of what goes through them (He)."""
    rng = np.random.default_rng([c.seed, 0x70617463])
    sizes = [3 * c.patch_px**2, *[c.width] * c.layers, c.features - _CHROMA]
    return tuple(
        rng.standard_normal((a, b), dtype=np.float32) * np.float32(np.sqrt(2.0 / a))
        for a, b in pairwise(sizes)
    )


def _colours_of(instruction: str) -> list[str]:
    named = [word for word in re.findall(r"[a-z]+", instruction.lower()) if word in COLOURS]
    if not named:
        raise InstructionError(
            f"an instruction must name one of {', '.join(COLOURS)}, got {instruction!r}"
        )
    return named[:N_WORDS]


def _chroma(rgb: tuple[float, float, float]) -> Weights:
    """Return the direction of a colour without its grey, unit length (3,)."""
    away = np.array(rgb) - np.mean(rgb)
    unit: Weights = (away / np.linalg.norm(away)).astype(np.float32)
    return unit


def _centres(rows: int, columns: int) -> Weights:
    """Return x and y of the centres of the patches (P, 2) as shares of the image."""
    y, x = np.mgrid[:rows, :columns]
    centres = np.stack([(x + 0.5) / columns, (y + 0.5) / rows], axis=-1)
    return centres.reshape(-1, 2).astype(np.float32)


def _softmax(logits: Weights) -> Weights:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Weights = powers / powers.sum(axis=1, keepdims=True)
    return shares
