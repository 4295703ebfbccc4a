# SPDX-License-Identifier: Apache-2.0
"""Sizes of the flow head and settings of its training."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.optimizer import OptimizerConfig
from vla_ros.learning.relative_rows import CHUNK_ROWS
from vla_ros.learning.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Sizes of the head, and how it is run."""

    flow_hidden: int = setting(128, "width of the flow head", ge=8, le=2048)
    condition: int = setting(64, "numbers that the head is told", ge=4, le=1024)
    denoising_steps: int = setting(10, "Euler steps from noise to rows", ge=1, le=100)
    candidates: int = setting(4, "chunks of one call", ge=1, le=64)
    prefix_rows_max: int = setting(
        10, "longest prefix to continue", unit="rows", ge=1, le=CHUNK_ROWS - 1
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ScatterConfig:
    """How labels scatter, as ways of a demonstrator would (``flow_data.scatter``)."""

    way_share: float = setting(
        0.05, "deviation at the last row per axis, as a share of the way to it", ge=0.0, le=0.5
    )
    turn_share: float = setting(0.05, "the same of the turn", ge=0.0, le=0.5)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class DetourConfig:
    """How prefixes lead elsewhere than they should (``flow_data.make_detours``)."""

    detour_share: float = setting(0.5, "share of the chunks that do", ge=0.0, le=1.0)
    detour_m_s: float = setting(0.03, "deviation of the speed per axis", unit="m/s", ge=0.0, le=1.0)
    detour_rad_s: float = setting(
        0.2, "deviation of the turning speed", unit="rad/s", ge=0.0, le=10.0
    )
    return_s: float = setting(0.1, "time constant of the way back", unit="s", ge=0.001, le=10.0)
    slip_share: float = setting(
        0.1, "share of those of which the gripper does the opposite", ge=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class FlowTrainingConfig:
    """Everything that decides what comes out, demonstrations and trained policy apart."""

    seed: int = setting(0, "seed of weights, noise and batches", ge=0, le=2**31)
    steps: int = setting(6000, "optimiser steps", ge=1, le=10**8)
    batch: int = setting(512, "chunks in a batch", ge=1, le=2**16)
    pool_batches: int = setting(
        300, "batches that the frozen policy is run on, once", ge=1, le=10**6
    )
    check_share: float = setting(
        0.02, "share of the demonstrations kept to check on", ge=0.0, le=0.5
    )
    threads: int = setting(2, "computing threads; another number rounds otherwise", ge=1, le=256)
    flow: FlowConfig = field(default_factory=FlowConfig)
    scatter: ScatterConfig = field(default_factory=ScatterConfig)
    detours: DetourConfig = field(default_factory=DetourConfig)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(frame_steps=24))
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=2e-3))

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def delays(self) -> LatencyHistogram:
        """How late chunks are: it decides the lengths of prefixes."""
        return self.sampling.delays
