# SPDX-License-Identifier: Apache-2.0
"""One cell of an experiment: everything but the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.sim.rig.expert import ExpertConfig
from vla_ros.sim.rig.scenario import ScenarioConfig
from vla_ros.sim.rig.surrogate import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class RigCase:
    """One cell of an experiment: everything but the seed.

    Attributes:
        settings: of the strategy; None: its defaults.
        stamps: what the fast half is told: "full", "arrival" (age counted from the arrival of a
            latent), "fresh" (every latent taken for new).
    """

    strategy: str = setting("naive", "execution strategy")
    split: bool = setting(False, "slow half on the delayed side, fast half at every step")
    small_image: bool = setting(False, "the fast half also sees a small image of the present")
    stamps: str = setting(
        "full", "what is known of a latent's age", choices=("full", "arrival", "fresh")
    )
    admits: bool = setting(
        False, "results are admitted by their stamps; clients without stamps take them all"
    )
    old_instruction_counts: bool = setting(
        True, "results and rows of an earlier instruction are executed"
    )
    timeout_s: float = setting(1.0, "a result is given up after", unit="s", ge=0.05, le=60.0)
    max_age_s: float = setting(
        0.0,
        "rows expire at this age of their cause, and slow down from half of it; 0: never",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    slow_period_s: float = setting(
        0.0,
        "time between frames that the slow half begins with; 0: one when the last is done",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    warm_start: bool = setting(False, "a first latent is there when the episode begins")
    stall_at_s: float = setting(0.0, "the policy stands still from here on", unit="s", ge=0, le=60)
    stall_s: float = setting(0.0, "for so long; 0: never", unit="s", ge=0.0, le=60.0)
    skew_s: float = setting(0.0, "error of capture times", unit="s", ge=-1.0, le=1.0)
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    delay: DelayConfig = field(default_factory=DelayConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    settings: Any = None

    def __post_init__(self) -> None:
        check_fields(self)
