# SPDX-License-Identifier: Apache-2.0
"""The last word on hooked rows: near the base policy, inside a box, no faster than allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.hooks.terms import N_TERMS
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LimiterConfig:
    """What the hooks together may do."""

    deviation_m: float = setting(0.10, "farthest from the base rows", unit="m", ge=0.0, le=1.0)
    deviation_rad: float = setting(
        0.3, "largest rotation from the base rows", unit="rad", ge=0.0, le=3.0
    )
    speed_m_s: float = setting(
        1.0, "fastest from row to row; a faster base is slowed too", unit="m/s", ge=0.01, le=3.0
    )
    box_low_m: tuple[float, ...] = setting(
        (-10.0, -10.0, -10.0), "lowest x, y, z of a row in base", unit="m", ge=-10.0, le=10.0
    )
    box_high_m: tuple[float, ...] = setting(
        (10.0, 10.0, 10.0), "highest x, y, z of a row in base", unit="m", ge=-10.0, le=10.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.box_low_m, self.box_high_m
        is_box = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
        if not is_box:
            raise ConfigError(f"box_low_m must be below box_high_m in x, y, z, got {low}, {high}")


class CommandLimiter:
    """Computes the term that brings rows within the limits; zero where they are."""

    def __init__(self, config: LimiterConfig | None = None) -> None:
        self._config = config or LimiterConfig()
        self._low = np.array(self._config.box_low_m)
        self._high = np.array(self._config.box_high_m)

    def term(self, base: ActionChunk, added: Array) -> Array:
        """Return the limit (H, 7) of rows that are ``base`` displaced by ``added`` (H, 7).

        Box and speed come last and win over the deviation: a base outside the box is moved in.
        """
        c = self._config
        translation = _shortened(added[:, :3], c.deviation_m)
        rotation = _shortened(added[:, 3:6], c.deviation_rad)
        wanted = np.clip(base.positions + translation, self._low, self._high)
        wanted = _slowed(wanted, c.speed_m_s * 1e-9 * base.dt_ns)
        limit = np.zeros((base.horizon, N_TERMS))
        limit[:, :3] = (wanted - base.positions) - added[:, :3]
        limit[:, 3:6] = rotation - added[:, 3:6]
        # What is left of a sum that was within the limits is rounding.
        limit[np.abs(limit) < 1e-12] = 0.0
        return limit


def _shortened(vectors: Array, longest: float) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scale = np.where(length > longest, longest / np.maximum(length, 1e-12), 1.0)
    short: Array = vectors * scale
    return short


def _slowed(positions: Array, longest_m: float) -> Array:
    """Return positions of which none is farther than ``longest_m`` from the one before."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if not (steps > longest_m).any():
        return positions
    slow = positions.copy()
    for i in range(1, len(slow)):
        step = positions[i] - slow[i - 1]
        length = float(np.linalg.norm(step))
        slow[i] = slow[i - 1] + step * min(1.0, longest_m / max(length, 1e-12))
    return slow
