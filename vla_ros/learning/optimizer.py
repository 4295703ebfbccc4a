# SPDX-License-Identifier: Apache-2.0
"""AdamW with a warm-up, a cosine decay and a running average of the weights; its state is arrays.

Source: decoupled weight decay, arXiv 1711.05101.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.learning.parameters import Arrays, to_tensors

if TYPE_CHECKING:
    from torch import Tensor

_GROUPS = ("weights", "average", "moment1", "moment2")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of the optimiser."""

    learning_rate: float = setting(2e-3, "largest learning rate", ge=1e-7, le=1.0)
    warmup_steps: int = setting(200, "steps until then", unit="steps", ge=0, le=100000)
    final_share: float = setting(0.02, "share of it at the end", ge=0.0, le=1.0)
    beta1: float = setting(0.9, "decay of the first moment", ge=0.0, le=0.9999)
    beta2: float = setting(0.98, "decay of the second moment", ge=0.0, le=0.99999)
    weight_decay: float = setting(1e-3, "decay of the weights", ge=0.0, le=1.0)
    clip_norm: float = setting(5.0, "largest norm of the gradient", ge=1e-3, le=1e6)
    average_decay: float = setting(0.998, "decay of the averaged weights", ge=0.0, le=0.99999)

    def __post_init__(self) -> None:
        check_fields(self)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decay = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(1, steps))))
        return self.learning_rate * warm * (self.final_share + (1.0 - self.final_share) * decay)


class Optimizer:
    """Weights in training and all that belongs to them.

    Attributes:
        weights: by name, with gradients.
        step: how often ``update`` was called.
    """

    def __init__(self, initial: Arrays, config: OptimizerConfig) -> None:
        self._config = config
        self.weights = to_tensors(initial, trained=True)
        self._average = to_tensors(initial, trained=False)
        nothing = {name: np.zeros_like(values) for name, values in initial.items()}
        self._moment1 = to_tensors(nothing, trained=False)
        self._moment2 = to_tensors(nothing, trained=False)
        self.step = 0

    def update(self, loss: Tensor, steps: int) -> float:
        """Take one step of ``steps`` down the gradient; return the gradient's norm."""
        import torch

        c, names = self._config, list(self.weights)
        gradients = torch.autograd.grad(loss, [self.weights[n] for n in names], allow_unused=True)
        found = [(n, g) for n, g in zip(names, gradients, strict=True) if g is not None]
        norm = float(torch.sqrt(torch.stack([g.square().sum() for _, g in found]).sum()))
        if not math.isfinite(norm):
            raise ConfigError(f"the gradient of step {self.step} is not finite; lower the rate")
        scale = min(1.0, c.clip_norm / (norm + 1e-9))
        rate, self.step = c.rate(self.step, steps), self.step + 1
        unbias1, unbias2 = 1.0 - c.beta1**self.step, 1.0 - c.beta2**self.step
        keep = min(c.average_decay, self.step / (self.step + 10.0))
        with torch.no_grad():
            for name, gradient in found:
                weight = self.weights[name]
                m1, m2 = self._moment1[name], self._moment2[name]
                m1.mul_(c.beta1).add_(gradient, alpha=scale * (1.0 - c.beta1))
                m2.mul_(c.beta2).addcmul_(gradient, gradient, value=scale**2 * (1.0 - c.beta2))
                if not name.endswith("/b"):
                    weight.mul_(1.0 - rate * c.weight_decay)
                weight.addcdiv_(m1, (m2 / unbias2).sqrt_().add_(1e-8), value=-rate / unbias1)
                self._average[name].lerp_(weight, 1.0 - keep)
        return norm

    def averaged(self) -> Arrays:
        """Return the averaged weights, the ones to use."""
        return {name: value.numpy().copy() for name, value in self._average.items()}

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return everything, by ``<group>:<name>``."""
        groups = (self.weights, self._average, self._moment1, self._moment2)
        return {
            f"{group}:{name}": value.detach().numpy()
            for group, values in zip(_GROUPS, groups, strict=True)
            for name, value in values.items()
        }

    def restore(self, arrays: dict[str, NDArray[np.float32]], step: int) -> None:
        """Take over what ``to_arrays`` returned.

        Raises:
            ConfigError: if an array is missing or has another shape.
        """
        import torch

        groups = (self.weights, self._average, self._moment1, self._moment2)
        for group, values in zip(_GROUPS, groups, strict=True):
            for name, tensor in values.items():
                found = arrays.get(f"{group}:{name}")
                if found is None or found.shape != tuple(tensor.shape):
                    raise ConfigError(f"the checkpoint does not fit the model: {group} of {name}")
                with torch.no_grad():
                    tensor.copy_(torch.from_numpy(found))
        self.step = step
