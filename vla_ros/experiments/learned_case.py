# SPDX-License-Identifier: Apache-2.0
"""One cell of an experiment with exported policies: everything but the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vla_ros.config_fields import check_fields, setting
from vla_ros.sim.events import EventConfig
from vla_ros.sim.rig.delays import DelayConfig


@dataclass(frozen=True, kw_only=True)
class LearnedCase:
    """An exported policy on the table-top task, in virtual time.

    Attributes:
        policy: its folder, below that of the models; empty: that folder itself.
        settings: of the strategy; None: its defaults.
        delay: of the slow half, or of a policy in one piece, from the beginning of an inference.
    """

    policy: str = setting("", "folder of the export, below that of the models")
    whole: bool = setting(False, "both halves of a split policy as one in one piece")
    told_ages: str = setting(
        "manifest",
        "which ages of latents the fast half is told: those that its manifest says, every, none",
        choices=("manifest", "every", "none"),
    )
    strategy: str = setting("timed", "execution strategy")
    admits: bool = setting(
        False, "results are admitted by their stamps; clients without stamps take them all"
    )
    old_instruction_counts: bool = setting(
        True, "results and rows of an earlier instruction are executed"
    )
    timeout_s: float = setting(1.0, "a result is given up after", unit="s", ge=0.05, le=60.0)
    camera_hz: float = setting(10.0, "camera rate", unit="Hz", ge=1.0, le=60.0)
    chunk_hz: float = setting(30.0, "steps of the executor", unit="Hz", ge=1.0, le=200.0)
    limit_s: float = setting(12.0, "given up after", unit="s", ge=1.0, le=120.0)
    delay: DelayConfig = field(default_factory=DelayConfig)
    event: EventConfig = field(default_factory=EventConfig)
    settings: Any = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tells_age(self) -> bool | None:
        """The same as ``OnnxFastPolicy`` takes it."""
        return {"manifest": None, "every": True, "none": False}[self.told_ages]
