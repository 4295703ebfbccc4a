# SPDX-License-Identifier: Apache-2.0
"""Named arrays of weights. The networks are functions of them, so weights are plain data.

A name says how its array starts: ``.../w`` normal with He's variance, ``.../small`` a hundredth of
that, ``.../b`` zero, ``.../embed`` normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError

if TYPE_CHECKING:
    import torch

Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, NDArray[np.float32]]
Weights = Mapping[str, "torch.Tensor"]


def linear(name: str, inputs: int, outputs: int, *, small: bool = False) -> Shapes:
    """Return the shapes of an affine map of vectors."""
    return {f"{name}/{'small' if small else 'w'}": (outputs, inputs), f"{name}/b": (outputs,)}


def convolution(name: str, inputs: int, outputs: int, side: int, *, small: bool = False) -> Shapes:
    """Return the shapes of a convolution with a square kernel."""
    kind = "small" if small else "w"
    return {f"{name}/{kind}": (outputs, inputs, side, side), f"{name}/b": (outputs,)}


def weight_of(p: Weights, name: str) -> torch.Tensor:
    """Return the matrix or kernel of a layer, however it started."""
    return p[f"{name}/w"] if f"{name}/w" in p else p[f"{name}/small"]


def initial_arrays(shapes: Shapes, seed: int) -> Arrays:
    """Return new weights; every array has a random stream of its own, so order does not matter."""
    arrays: Arrays = {}
    for name, shape in shapes.items():
        kind = name.rsplit("/", 1)[-1]
        random = np.random.default_rng([seed, *name.encode()])
        if kind == "b":
            values = np.zeros(shape)
        elif kind == "embed":
            values = random.normal(0.0, 1.0, shape)
        else:
            fan_in = math.prod(shape[1:])
            gain = 0.01 if kind == "small" else 1.0
            values = random.normal(0.0, gain * math.sqrt(2.0 / fan_in), shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def check_arrays(arrays: Mapping[str, NDArray[Any]], shapes: Shapes) -> None:
    """Check that the weights are those of a model, all finite.

    Raises:
        ConfigError: naming the first array that is missing, unknown, misshapen or not finite.
    """
    if unknown := sorted(set(arrays) - set(shapes)):
        raise ConfigError(f"the model has no weights {unknown[0]!r}")
    for name, shape in shapes.items():
        values = arrays.get(name)
        if values is None:
            raise ConfigError(f"weights {name!r} are missing")
        if values.shape != shape or values.dtype != np.float32:
            raise ConfigError(
                f"weights {name!r} must be float32 {shape}, got {values.dtype} {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ConfigError(f"weights {name!r} are not finite")


def count(shapes: Shapes) -> int:
    """Return the number of weights."""
    return sum(math.prod(shape) for shape in shapes.values())


def to_tensors(arrays: Mapping[str, NDArray[np.float32]], *, trained: bool) -> dict[str, Any]:
    """Return the weights as PyTorch tensors; ``trained``: with gradients."""
    import torch

    return {
        name: torch.from_numpy(values.copy()).requires_grad_(trained)
        for name, values in arrays.items()
    }
