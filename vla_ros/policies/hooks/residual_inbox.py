# SPDX-License-Identifier: Apache-2.0
"""Corrections from another process: judged where they arrive, applied where the policy is asked."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.policies.hooks.residual import FUTURE_NS, ResidualConfig

Array = NDArray[np.float64]

# A learned residual may overshoot its bound, and is shortened. This much is another unit.
_WRONG_UNIT = 10.0
UNSTAMPED = 0


class ResidualInbox:
    """Keeps the newest correction that can be used, until it is taken.

    Args:
        config: of the residual; corrections beyond ten times its bounds are refused.
        frame: that corrections must be expressed in.
        max_age_s: older ones are refused.

    Thread-safety: one thread puts, one takes.

    Attributes:
        accepted: corrections that could be used.
        refused: others, by reason.
        last_refusal: the newest, in full; empty: none yet.
    """

    def __init__(self, config: ResidualConfig, frame: str, max_age_s: float) -> None:
        self._config, self._frame = config, frame
        self._max_age_ns = round(max_age_s * NS_PER_S)
        self._newest: deque[tuple[Array, int]] = deque(maxlen=1)
        self._last_ns = UNSTAMPED
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.last_refusal = ""

    def put(self, value: Array, frame: str, made_ns: int, now_ns: int) -> str:
        """Take a correction (6,) [m, rad]; return why it is refused, empty if it is not.

        An empty ``frame`` is the one agreed on; ``made_ns`` must be said, unlike ``UNSTAMPED``.
        """
        reason = self._why_not(value, frame, made_ns, now_ns)
        if reason:
            self.refused[reason.split(":")[0]] += 1
            self.last_refusal = reason
            return reason
        self.accepted += 1
        self._last_ns = made_ns
        self._newest.append((value, made_ns))
        return ""

    def take(self) -> tuple[Array, int] | None:
        """Return the newest correction and when it was made; None if it was taken before."""
        try:
            return self._newest.popleft()
        except IndexError:
            return None

    def _why_not(self, value: Array, frame: str, made_ns: int, now_ns: int) -> str:
        if frame not in ("", self._frame):
            return f"frame: expected {self._frame!r}, got {frame[:64]!r}"
        if made_ns == UNSTAMPED:
            return "no stamp: header.stamp must say when it was made"
        if np.shape(value) != (6,):
            return f"shape: expected (6,), got {np.shape(value)}"
        if not np.isfinite(value).all():
            return "not finite"
        age_ms = (now_ns - made_ns) / NS_PER_MS
        if now_ns < made_ns - FUTURE_NS:
            return f"from the future: by {-age_ms:.0f} ms"
        if now_ns - made_ns > self._max_age_ns:
            return f"too old: {age_ms:.0f} ms, at most {self._max_age_ns / NS_PER_MS:.0f} ms"
        if made_ns < self._last_ns:
            return f"out of order: {(self._last_ns - made_ns) / NS_PER_MS:.1f} ms before the last"
        return self._why_too_large(value)

    def _why_too_large(self, value: Array) -> str:
        c = self._config
        for part, bound, unit in ((value[:3], c.bound_m, "m"), (value[3:], c.bound_rad, "rad")):
            length, most = float(np.linalg.norm(part)), _WRONG_UNIT * bound
            if length > most:
                return f"too large: {length:.3g} {unit}, at most {most:.3g} {unit}: another unit?"
        return ""
