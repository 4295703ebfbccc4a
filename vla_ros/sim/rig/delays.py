# SPDX-License-Identifier: Apache-2.0
"""Inference delays from seeded traces: fixed, uniform, log-normal with spikes, drops, recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.clock import NS_PER_MS
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError

KINDS = ("fixed", "uniform", "lognormal", "recorded")


@dataclass(frozen=True, kw_only=True)
class DelayConfig:
    """From when the observation was taken until the result is there.

    ``cv`` is the coefficient of variation (standard deviation over mean): of a uniform delay it can
    be at most 1/sqrt(3), where the shortest is 0.
    """

    kind: str = setting("fixed", "how delays are drawn", choices=KINDS)
    mean_ms: float = setting(0.0, "mean delay", unit="ms", ge=0.0, le=60000.0)
    cv: float = setting(0.0, "standard deviation over mean", ge=0.0, le=3.0)
    spike_share: float = setting(0.0, "share of delays that are longer", ge=0.0, le=1.0)
    spike_factor: float = setting(4.0, "how many times longer", ge=1.0, le=100.0)
    drop_share: float = setting(0.0, "share of results that never arrive", ge=0.0, le=0.9)
    recorded_ms: tuple[float, ...] = setting(
        (), "delays to play in turn, from a random place on", unit="ms", ge=0.0, le=60000.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kind == "uniform" and self.cv > 1.0 / math.sqrt(3.0):
            raise ConfigError(f"cv of a uniform delay must be at most 0.577, got {self.cv}")
        if self.kind == "recorded" and not self.recorded_ms:
            raise ConfigError("recorded_ms must not be empty when kind is recorded")


class DelayTrace:
    """Draws one delay after the other; the same seed gives the same delays.

    Every call takes the same number of random values, whatever comes out: two strategies that ask
    equally often meet the same delays.
    """

    def __init__(self, config: DelayConfig, seed: int) -> None:
        self._config = config
        self._random = np.random.default_rng([seed, 0x64656C61])
        self._next = 0
        if config.kind == "recorded":
            self._next = int(self._random.integers(len(config.recorded_ms)))
        self._log_sigma = math.sqrt(math.log1p(config.cv**2))

    def draw(self) -> int | None:
        """Return the next delay [ns], or None for a result that never arrives."""
        c = self._config
        normal = float(self._random.standard_normal())
        even, spike, drop = self._random.random(3)
        if c.kind == "recorded":
            delay_ms = c.recorded_ms[self._next]
            self._next = (self._next + 1) % len(c.recorded_ms)
        elif c.kind == "uniform":
            delay_ms = c.mean_ms * (1.0 + c.cv * math.sqrt(3.0) * (2.0 * even - 1.0))
        elif c.kind == "lognormal":
            sigma = self._log_sigma
            delay_ms = c.mean_ms * math.exp(sigma * normal - 0.5 * sigma**2)
        else:
            delay_ms = c.mean_ms
        if spike < c.spike_share:
            delay_ms *= c.spike_factor
        return None if drop < c.drop_share else round(delay_ms * NS_PER_MS)
