# SPDX-License-Identifier: Apache-2.0
"""The few operations the networks are made of. ``B`` batch, ``C`` channels, ``N`` cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.learning.parameters import Weights, weight_of

if TYPE_CHECKING:
    from torch import Tensor


def affine(p: Weights, name: str, x: Tensor) -> Tensor:
    """Return W x + b of vectors (..., inputs)."""
    return x @ weight_of(p, name).T + p[f"{name}/b"]


def convolve(p: Weights, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Return the convolution of maps (B, C, rows, columns)."""
    from torch.nn.functional import conv2d

    return conv2d(x, weight_of(p, name), p[f"{name}/b"], stride=stride, padding=padding)


def perceptron(p: Weights, name: str, x: Tensor, layers: int) -> Tensor:
    """Return the output of ``layers`` affine maps, each followed by a ReLU."""
    for i in range(layers):
        x = affine(p, f"{name}{i}", x).relu()
    return x


def join(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenation along the last axis."""
    import torch

    return torch.cat(tuple(parts), dim=-1)


def in_sequence(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenation along the second axis."""
    import torch

    return torch.cat(tuple(parts), dim=1)


def constant(values: object, like: Tensor) -> Tensor:
    """Return fixed numbers as a tensor of the type of ``like``."""
    import torch

    return torch.as_tensor(values, dtype=like.dtype)


@dataclass(frozen=True)
class Attended:
    """What queries found in a map.

    Attributes:
        logits: (B, Q, N) match of every query with every cell.
        weights: (B, Q, N) their softmax over the cells.
        values: (B, Q, V) values at the places found.
        peak: (B, Q, 1) largest match: how sure the query is that it found anything.
    """

    logits: Tensor
    weights: Tensor
    values: Tensor
    peak: Tensor


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Attended:
    """Look with queries (B, Q, K) at keys (B, N, K) that carry values (B, N, V)."""
    logits = queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
    weights = logits.softmax(dim=-1)
    return Attended(logits, weights, weights @ values, logits.amax(dim=-1, keepdim=True))


def to_cells(x: Tensor) -> Tensor:
    """Return a map (B, C, rows, columns) as cells (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def images_to_float(images: Tensor) -> Tensor:
    """Return uint8 images (..., rows, columns, 3) as (..., 3, rows, columns) in -1..1."""
    return images.movedim(-1, -3).float() / 127.5 - 1.0
