# SPDX-License-Identifier: Apache-2.0
"""Settings of the control host, with units and allowed ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vla_ros.config_fields import check_fields, setting


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Rates, gains and limits of the control host; the core checks them once more.

    Raises:
        ConfigError: naming value and allowed range.
    """

    rate_hz: float = setting(1000.0, "control rate", unit="Hz", ge=100.0, le=2000.0, read_only=True)
    stiffness_trans: float = setting(
        1000.0, "translational stiffness", unit="N/m", ge=0.0, le=5000.0
    )
    stiffness_rot: float = setting(50.0, "rotational stiffness", unit="N·m/rad", ge=0.0, le=500.0)
    damping_ratio: float = setting(1.4, "damping ratio about the task inertia", ge=0.1, le=2.0)
    error_clip_trans_m: float = setting(
        0.04,
        "position error beyond which the spring force does not grow",
        unit="m",
        ge=1e-4,
        le=1.0,
    )
    error_clip_rot_rad: float = setting(
        0.4,
        "rotation error beyond which the spring torque does not grow",
        unit="rad",
        ge=1e-4,
        le=3.2,
    )
    nullspace_stiffness: float = setting(
        10.0, "stiffness towards the posture", unit="N·m/rad", ge=0.0, le=500.0
    )
    torque_rate_limit_nm_s: float = setting(
        1000.0, "largest change of a joint torque", unit="N·m/s", ge=1.0, le=100000.0
    )
    max_speed_m_s: float = setting(0.6, "fastest reference", unit="m/s", ge=1e-3, le=3.0)
    max_speed_rad_s: float = setting(
        2.0, "fastest reference rotation", unit="rad/s", ge=1e-3, le=10.0
    )
    brake_m_s2: float = setting(3.0, "deceleration when rows run out", unit="m/s²", ge=0.1, le=13.0)
    brake_rad_s2: float = setting(
        10.0, "rotational deceleration when rows run out", unit="rad/s²", ge=0.1, le=25.0
    )
    seam_time_constant_s: float = setting(
        0.03, "how fast the jump between two segments is faded out", unit="s", ge=1e-3, le=1.0
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def names(self) -> list[str]:
        """Return the names of all settings."""
        return [f.name for f in fields(self)]
