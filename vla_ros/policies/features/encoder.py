# SPDX-License-Identifier: Apache-2.0
"""What a slow policy must look like inside for its features to be reusable: late fusion.

    features[i] = encode_patches(patch i)          no other patch, no words, no state
    latent      = fuse(features of all patches, words)

Then the features of an unchanged patch are those that would be computed, and computing the changed
ones alone is exact. An encoder with attention between patches fits if "patch" is the window that
attends within itself; one that attends over the whole image does not fit.

Source: that late fusion makes features cacheable is an idea of NanoVLA; the protocol is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.policies.base import Tensors

Patches = NDArray[np.uint8]
Features = NDArray[np.float32]


class PatchEncoder(Protocol):
    """A slow policy in two parts, the first of which sees one patch at a time.

    Attributes:
        version: changes whenever the weights do; ``weights_version`` makes one.
        cameras: whose images it needs.
        patch_px: side of a patch [px]; divides the sides of every image.
        max_age_s: how old an image may be for its latent to be acted on [s].
    """

    name: str
    cameras: tuple[str, ...]
    patch_px: int
    max_age_s: float

    @property
    def version(self) -> str:
        """Return what the weights are known by."""

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""

    def encode_patches(self, patches: Patches) -> Features:
        """Return one feature (n, ...) for each of the patches (n, patch_px, patch_px, 3) RGB."""

    def fuse(self, features: Mapping[str, Features], instruction: str) -> Tensors:
        """Return the latent of all features, per camera (rows, columns, ...), and the words."""


def weights_version(name: str, weights: Iterable[NDArray[np.generic]]) -> str:
    """Return a name of these weights: 16 hexadecimal digits of the SHA-256 of all their bytes."""
    digest = hashlib.sha256(name.encode())
    for array in weights:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
