# SPDX-License-Identifier: Apache-2.0
"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.losses import LossWeights
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.optimizer import OptimizerConfig
from vla_ros.learning.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides what comes out, the demonstrations apart."""

    seed: int = setting(0, "seed of weights and batches", ge=0, le=2**31)
    steps: int = setting(4000, "optimiser steps", ge=1, le=10**8)
    check_share: float = setting(
        0.02, "share of the demonstrations kept to check on", ge=0.0, le=0.5
    )
    threads: int = setting(2, "computing threads; another number rounds otherwise", ge=1, le=256)
    model: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        check_fields(self)
