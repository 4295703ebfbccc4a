# SPDX-License-Identifier: Apache-2.0
"""A correction from elsewhere, added at every step: bounded, slewed, fading when its source stops.

    wished(t) = bounded(value) exp(-max(age - hold, 0) / decay)
    applied   = applied + (wished - applied), at most slew dt

Bounded is the length, of the translation and of the rotation vector. ``applied`` moves on a
straight line between points within the bound, so it is within it at every step, too.

Source: per-step residual on a black-box policy (ResFiT); bound, slew and fading are ours.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting

Array = NDArray[np.float64]

FUTURE_NS = 5 * NS_PER_MS


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """How large, how fast, how long."""

    bound_m: float = setting(0.02, "longest translation", unit="m", ge=0.0, le=0.2)
    bound_rad: float = setting(0.1, "largest rotation", unit="rad", ge=0.0, le=1.0)
    slew_m_s: float = setting(0.1, "fastest change of translation", unit="m/s", ge=1e-3, le=1.0)
    slew_rad_s: float = setting(0.5, "fastest change of rotation", unit="rad/s", ge=1e-3, le=5.0)
    hold_s: float = setting(0.02, "a value counts in full up to this age", unit="s", ge=0.0, le=1.0)
    decay_s: float = setting(0.2, "time constant of the fading after", unit="s", ge=0.01, le=10.0)
    longest_step_s: float = setting(
        0.05,
        "a step after a longer pause changes as much as one after this",
        unit="s",
        ge=1e-3,
        le=1,
    )

    def __post_init__(self) -> None:
        check_fields(self)


class BoundedResidual:
    """Takes values (6,): translation [m], rotation vector [rad], both in base.

    Thread-safety: one thread.

    Attributes:
        refused: values that were not taken, by reason.
    """

    def __init__(self, config: ResidualConfig | None = None) -> None:
        self._config = config or ResidualConfig()
        self.refused: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget the value and what was applied: a new episode or authority begins."""
        self._value = np.zeros(6)
        self._value_ns: int | None = None
        self._applied = np.zeros(6)
        self._step_ns: int | None = None

    def offer(self, value: Array, made_ns: int, now_ns: int) -> bool:
        """Take a value that was made at ``made_ns``; return whether it was taken.

        Not taken: another shape, not finite, from the future, older than one taken before.
        """
        reason = self._why_not(value, made_ns, now_ns)
        if reason:
            self.refused[reason] += 1
            return False
        c = self._config
        self._value = np.concatenate(
            [shortened(value[:3], c.bound_m), shortened(value[3:], c.bound_rad)]
        )
        self._value_ns = made_ns
        return True

    @property
    def applied(self) -> Array:
        """What the last step returned (6,)."""
        return self._applied.copy()

    def is_silent(self, now_ns: int) -> bool:
        """Return whether the newest value is too old to count in full."""
        return self._value_ns is None or now_ns - self._value_ns > self._config.hold_s * NS_PER_S

    def step(self, now_ns: int) -> Array:
        """Return the residual (6,) to apply from now on; call once per step."""
        c = self._config
        since_s = 0.0 if self._step_ns is None else (now_ns - self._step_ns) / NS_PER_S
        dt_s = min(max(since_s, 0.0), c.longest_step_s)
        self._step_ns = now_ns
        change = self._wished(now_ns) - self._applied
        self._applied = self._applied + np.concatenate(
            [shortened(change[:3], c.slew_m_s * dt_s), shortened(change[3:], c.slew_rad_s * dt_s)]
        )
        return self._applied.copy()

    def _wished(self, now_ns: int) -> Array:
        if self._value_ns is None:
            return np.zeros(6)
        silent_s = (now_ns - self._value_ns) / NS_PER_S - self._config.hold_s
        fading = np.exp(-max(silent_s, 0.0) / self._config.decay_s)
        wished: Array = self._value * fading
        return wished

    def _why_not(self, value: Array, made_ns: int, now_ns: int) -> str:
        if np.shape(value) != (6,):
            return "shape"
        if not np.isfinite(value).all():
            return "not finite"
        if made_ns > now_ns + FUTURE_NS:
            return "from the future"
        if self._value_ns is not None and made_ns < self._value_ns:
            return "out of order"
        return ""


def shortened(vector: Array, longest: float) -> Array:
    """Return a vector of the same direction that is at most so long."""
    length = float(np.linalg.norm(vector))
    if length <= longest:
        return vector.copy()
    short: Array = vector * (longest / length)
    return short
