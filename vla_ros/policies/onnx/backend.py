# SPDX-License-Identifier: Apache-2.0
"""What a session asks of whoever runs a graph: ONNX Runtime, or TensorRT by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class TensorFacts:
    """What a backend says of an input or output of its graph; a dimension may be a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class RunHandle(Protocol):
    """One run, from before it begins."""

    def cancel(self) -> None:
        """End the run as soon as possible, also one that has not begun; from any thread."""


class Backend(Protocol):
    """Runs one graph. Thread-safety: one run at a time; ``cancel`` from any thread."""

    provider: str  # where it runs: cpu, cuda, tensorrt, tensorrt_engine
    description: str  # for people: device, versions, what is not as was hoped for

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        """The inputs of the graph."""

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        """The outputs of the graph."""

    def new_run(self) -> RunHandle:
        """Return the handle of a run to come."""

    def run(self, feeds: Tensors, handle: Any) -> dict[str, NDArray[np.generic]]:
        """Compute the outputs by name; the arrays are the caller's.

        Raises:
            PolicyError: if it fails or is cancelled.
        """
