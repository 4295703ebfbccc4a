# SPDX-License-Identifier: Apache-2.0
"""The plainest source of a residual: an offset that is known, and what a person moves it by.

    correction = offset + moved,    d moved / dt = velocity while somebody says one

A calibration error, such as a camera that is mounted 5 mm beside where it is thought to be, is an
offset. A SpaceMouse or keyboard gives velocities: a person then corrects a policy while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.hooks.residual import shortened

Array = NDArray[np.float64]

_LONGEST_STEP_S = 0.1


@dataclass(frozen=True, kw_only=True)
class OffsetConfig:
    """What is known, and how far a person may go."""

    offset_m: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "known correction in base", unit="m", ge=-0.2, le=0.2
    )
    offset_rad: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "the same, a rotation vector", unit="rad", ge=-1.0, le=1.0
    )
    reach_m: float = setting(0.02, "farthest that velocities move it", unit="m", ge=0.0, le=0.2)
    reach_rad: float = setting(0.1, "the same for rotations", unit="rad", ge=0.0, le=1.0)
    velocity_hold_s: float = setting(
        0.25, "a velocity counts for so long", unit="s", ge=0.01, le=5.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("offset_m", "offset_rad"):
            if len(getattr(self, name)) != 3:
                raise ConfigError(f"{name} must be 3 numbers, got {list(getattr(self, name))}")


class OffsetSource:
    """Says the correction at any time.

    Thread-safety: one thread calls ``step``, any other ``push`` and ``zero``.
    """

    def __init__(self, config: OffsetConfig | None = None) -> None:
        self.config = config or OffsetConfig()
        self._said: tuple[Array, int] | None = None
        self._moved = np.zeros(6)
        self._is_zeroed = False
        self._step_ns: int | None = None

    def push(self, velocity: Array, now_ns: int) -> bool:
        """Take a velocity (6,) [m/s, rad/s] in base; return whether it is one."""
        if velocity.shape != (6,) or not np.isfinite(velocity).all():
            return False
        self._said = (velocity.copy(), now_ns)
        return True

    def zero(self) -> None:
        """Forget what velocities added, at the next step; the known offset stays."""
        self._said = None
        self._is_zeroed = True

    def step(self, now_ns: int) -> Array:
        """Return the correction (6,) [m, rad] at ``now_ns``."""
        c = self.config
        since_s = 0.0 if self._step_ns is None else (now_ns - self._step_ns) / NS_PER_S
        self._step_ns = now_ns
        if self._is_zeroed:
            self._is_zeroed = False
            self._moved = np.zeros(6)
        said = self._said
        if said is not None and now_ns - said[1] <= c.velocity_hold_s * NS_PER_S:
            moved = self._moved + said[0] * min(max(since_s, 0.0), _LONGEST_STEP_S)
            self._moved = np.concatenate(
                [shortened(moved[:3], c.reach_m), shortened(moved[3:], c.reach_rad)]
            )
        correction: Array = np.array([*c.offset_m, *c.offset_rad]) + self._moved
        return correction
