# SPDX-License-Identifier: Apache-2.0
"""A force along one axis: feed-forward, and a bounded integral of the measured error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_ros.config_fields import check_fields, setting


@dataclass(frozen=True, kw_only=True)
class ForceTaskConfig:
    """Settings of a force task.

    Raises:
        ConfigError: naming value and allowed range.
    """

    force_n: float = setting(5.0, "force on the world along the axis", unit="N", ge=0.0, le=100.0)
    integral_per_s: float = setting(
        60.0, "correction per second and newton of error", unit="1/s", ge=0.0, le=200.0
    )
    correction_limit_n: float = setting(3.0, "largest correction", unit="N", ge=0.0, le=50.0)
    filter_s: float = setting(
        0.005, "time constant on the measured force", unit="s", ge=0.0, le=1.0
    )
    contact_n: float = setting(1.0, "measured force that means contact", unit="N", ge=0.0, le=50.0)

    def __post_init__(self) -> None:
        check_fields(self)


class ForceTask:
    """Says which force to feed forward, so that the measured one becomes the wanted one.

    An impedance law without stiffness along the axis passes the feed-forward on to the world, less
    what joint friction keeps. The integral finds that share; its bandwidth is ``integral_per_s``
    [rad/s], because the contact adds no dynamics of its own. Without contact the correction decays
    at the same rate, so that a lost contact is not answered by ever more force.
    """

    def __init__(self, config: ForceTaskConfig | None = None) -> None:
        self.config = config or ForceTaskConfig()
        self.reset()

    def reset(self) -> None:
        """Forget correction and filter."""
        self._correction_n = 0.0
        self._filtered_n = 0.0

    @property
    def in_contact(self) -> bool:
        """Whether the filtered force is above the threshold."""
        return self._filtered_n > self.config.contact_n

    @property
    def measured_n(self) -> float:
        """The filtered measured force [N]."""
        return self._filtered_n

    def update(self, measured_n: float, dt_s: float) -> float:
        """Return the feed-forward force [N] for the next ``dt_s``.

        Args:
            measured_n: force on the world along the axis [N]; one that is not finite is left out.
            dt_s: time since the last call [s].
        """
        c = self.config
        if math.isfinite(measured_n):
            share = 1.0 - math.exp(-dt_s / c.filter_s) if c.filter_s > 0 else 1.0
            self._filtered_n += share * (measured_n - self._filtered_n)
        if self.in_contact:
            self._correction_n += c.integral_per_s * dt_s * (c.force_n - self._filtered_n)
        else:
            self._correction_n *= math.exp(-c.integral_per_s * dt_s)
        limit = c.correction_limit_n
        self._correction_n = min(limit, max(-limit, self._correction_n))
        return c.force_n + self._correction_n
