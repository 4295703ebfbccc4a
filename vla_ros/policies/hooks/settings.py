# SPDX-License-Identifier: Apache-2.0
"""Which hooks run around a fast policy, as flat settings: parameters of a node are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vla_ros.config_fields import check_fields, setting
from vla_ros.policies.hooks.limiter import LimiterConfig
from vla_ros.policies.hooks.residual import ResidualConfig


def _as_in(config_type: type[Any], name: str, default: Any = None) -> Any:
    """Return the setting of a configuration of a hook, to be changed before the start only."""
    origin = next(f for f in fields(config_type) if f.name == name)
    return field(
        default=origin.default if default is None else default,
        metadata={**origin.metadata, "read_only": True},
    )


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """No hooks unless asked for. A residual has the limiter behind it in any case."""

    residual: bool = setting(
        False, "add the corrections of topic `residual`, bounded and limited", read_only=True
    )
    limiter: bool = setting(
        False, "keep rows within the limits below, also without a residual", read_only=True
    )
    residual_bound_m: float = _as_in(ResidualConfig, "bound_m")
    residual_bound_rad: float = _as_in(ResidualConfig, "bound_rad")
    # At 30 chunks per second 1 mm and 5 mrad from chunk to chunk.
    residual_slew_m_s: float = _as_in(ResidualConfig, "slew_m_s", 0.03)
    residual_slew_rad_s: float = _as_in(ResidualConfig, "slew_rad_s", 0.15)
    # Two periods of residual_node.
    residual_hold_s: float = _as_in(ResidualConfig, "hold_s", 0.04)
    residual_decay_s: float = _as_in(ResidualConfig, "decay_s")
    residual_max_age_s: float = setting(
        0.2, "a correction that arrives older is refused", unit="s", ge=1e-3, le=10.0,
        read_only=True,
    )  # fmt: skip
    limiter_deviation_m: float = _as_in(LimiterConfig, "deviation_m")
    limiter_deviation_rad: float = _as_in(LimiterConfig, "deviation_rad")
    limiter_speed_m_s: float = _as_in(LimiterConfig, "speed_m_s")
    limiter_box_low_m: tuple[float, ...] = _as_in(LimiterConfig, "box_low_m")
    limiter_box_high_m: tuple[float, ...] = _as_in(LimiterConfig, "box_high_m")

    def __post_init__(self) -> None:
        check_fields(self)
        self.limiter_config()

    @property
    def has_hooks(self) -> bool:
        """Return whether anything is put around the policy."""
        return self.residual or self.limiter

    def residual_config(self, period_s: float) -> ResidualConfig:
        """Return the residual for steps ``period_s`` apart; a late step changes no more than one.

        Raises:
            ConfigError: if the period is not 1 ms to 1 s.
        """
        return ResidualConfig(
            bound_m=self.residual_bound_m,
            bound_rad=self.residual_bound_rad,
            slew_m_s=self.residual_slew_m_s,
            slew_rad_s=self.residual_slew_rad_s,
            hold_s=self.residual_hold_s,
            decay_s=self.residual_decay_s,
            longest_step_s=period_s,
        )

    def limiter_config(self) -> LimiterConfig:
        """Return the limits.

        Raises:
            ConfigError: if the box is none.
        """
        return LimiterConfig(
            deviation_m=self.limiter_deviation_m,
            deviation_rad=self.limiter_deviation_rad,
            speed_m_s=self.limiter_speed_m_s,
            box_low_m=tuple(self.limiter_box_low_m),
            box_high_m=tuple(self.limiter_box_high_m),
        )
