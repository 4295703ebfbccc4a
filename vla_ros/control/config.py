# SPDX-License-Identifier: Apache-2.0
"""Settings of the control host, with units and allowed ranges."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.config_fields import setting
from vla_ros.control.law_settings import LawSettings


@dataclass(frozen=True, kw_only=True)
class ControlConfig(LawSettings):
    """The law, its rate, its reference and its plain targets; the core checks them once more.

    Raises:
        ConfigError: naming value and allowed range.
    """

    rate_hz: float = setting(1000.0, "control rate", unit="Hz", ge=100.0, le=2000.0, read_only=True)
    max_speed_m_s: float = setting(
        0.6, "fastest reference", unit="m/s", ge=1e-3, le=3.0, read_only=True
    )
    max_speed_rad_s: float = setting(
        2.0, "fastest reference rotation", unit="rad/s", ge=1e-3, le=10.0, read_only=True
    )
    brake_m_s2: float = setting(
        3.0,
        "deceleration when rows or targets run out",
        unit="m/s²",
        ge=0.1,
        le=13.0,
        read_only=True,
    )
    brake_rad_s2: float = setting(
        10.0,
        "rotational deceleration when rows or targets run out",
        unit="rad/s²",
        ge=0.1,
        le=25.0,
        read_only=True,
    )
    seam_time_constant_s: float = setting(
        0.03,
        "how fast the jump between two segments is faded out",
        unit="s",
        ge=1e-3,
        le=1.0,
        read_only=True,
    )
    acceleration_feed_forward: bool = setting(
        False, "hand the acceleration of the reference to the law too", read_only=True
    )
    targets_need_lease: bool = setting(
        True, "false: plain targets lead whenever nobody else holds a lease", read_only=True
    )
    workspace_low_m: tuple[float, ...] = setting(
        (-10.0, -10.0, -10.0),
        "lower corner of the box that the reference stays in, base axes",
        unit="m",
        ge=-10.0,
        le=10.0,
        read_only=True,
    )
    workspace_high_m: tuple[float, ...] = setting(
        (10.0, 10.0, 10.0), "its upper corner", unit="m", ge=-10.0, le=10.0, read_only=True
    )
    workspace_margin_m: float = setting(
        0.02,
        "distance to its walls over which the reference is slowed down",
        unit="m",
        ge=1e-3,
        le=0.2,
        read_only=True,
    )
    target_timeout_s: float = setting(
        0.6,
        "plain targets: compliant hold without a new one for this long",
        unit="s",
        ge=0.01,
        le=10.0,
        read_only=True,
    )
    target_max_distance_m: float = setting(
        0.5,
        "plain targets further than this from the reference are refused",
        unit="m",
        ge=1e-3,
        le=5.0,
        read_only=True,
    )
    target_max_acceleration_m_s2: float = setting(
        5.0,
        "acceleration of the reference that follows plain targets",
        unit="m/s²",
        ge=0.1,
        le=50.0,
        read_only=True,
    )
    target_max_force_n: float = setting(
        60.0, "largest force that may be asked for", unit="N", ge=0.0, le=1000.0, read_only=True
    )
    target_max_torque_nm: float = setting(
        15.0, "largest torque that may be asked for", unit="N·m", ge=0.0, le=200.0, read_only=True
    )
