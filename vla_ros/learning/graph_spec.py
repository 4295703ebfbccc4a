# SPDX-License-Identifier: Apache-2.0
"""What a graph is before it is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GraphSpec:
    """One graph: its file, its function of tensors, names of what goes in and out.

    Attributes:
        drawn: makes inputs up that are not among those of ``sample_inputs``.
        is_derived: the function takes derivatives, which are written out before it is exported.
        dynamic_shapes: says PyTorch which sizes differ from call to call; None: none does.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Callable[..., tuple[Tensor, ...]]
    drawn: Mapping[str, Callable[[np.random.Generator], NDArray[Any]]] = field(default_factory=dict)
    is_derived: bool = False
    dynamic_shapes: Callable[[], Any] | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.onnx"
