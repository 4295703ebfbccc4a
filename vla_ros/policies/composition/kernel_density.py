# SPDX-License-Identifier: Apache-2.0
"""Score a chunk by how many known chunks are like it.

    score = log mean_i exp(-|x - x_i|^2 / (2 h^2 n))

x and x_i are rows in model space, n their number of values: h is a distance per value. A soft count
of the demonstrations near a chunk: what is unlike all of them scores low, however confident the
policy is.

Source: the pseudo-count of TACO, here with a Gaussian kernel on rows instead of a learned network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.flow_mixture import N_COLUMNS, ModelSpace
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


class KernelDensity:
    """A ``ChunkScorer`` from known chunks.

    Args:
        known: (n, H, 7) rows in model space, relative to the pose they began at.
        space: scales of model space.
        width: h, in units of model space.
    """

    name = "kernel_density"

    def __init__(self, known: Array, space: ModelSpace, width: float = 0.3) -> None:
        if known.ndim != 3 or known.shape[2] != N_COLUMNS or not len(known):
            raise ShapeError(f"known chunks must be (n, H, {N_COLUMNS}), got {known.shape}")
        if not 0.0 < width < 100.0:
            raise ConfigError(f"width must be above 0 and below 100, got {width}")
        self._known, self._space = known, space
        self._scale = 2.0 * width**2 * known.shape[1] * N_COLUMNS

    def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
        """Return the log density; raises ``ShapeError`` if the chunk has another number of rows."""
        x = self._space.to_model(chunk, request.observation.state.T_base_ee)
        if x.shape != self._known.shape[1:]:
            raise ShapeError(f"rows must be {self._known.shape[1:]}, got {x.shape}")
        exponents = -((self._known - x) ** 2).sum(axis=(1, 2)) / self._scale
        largest = exponents.max()
        return float(largest + np.log(np.exp(exponents - largest).mean()))
