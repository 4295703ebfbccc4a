# SPDX-License-Identifier: Apache-2.0
"""How old a latent is when it is acted on: drawn from a histogram of latencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LatencyHistogram:
    """Latencies of a slow half and how often each occurs.

    A slow half that takes L and begins anew when it has ended is acted on from age L, when its
    latent arrives, to 2 L plus a period, when the next one does.
    """

    latencies_s: tuple[float, ...] = setting(
        (0.0, 0.1, 0.3, 0.5, 1.0, 2.0), "latencies", unit="s", ge=0.0, le=20.0
    )
    weights: tuple[float, ...] = setting(
        (0.3, 0.2, 0.1, 0.15, 0.1, 0.15), "how often each occurs", ge=0.0, le=1e6
    )
    period_s: float = setting(0.1, "shortest time between latents", unit="s", ge=0.001, le=10.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.latencies_s) != len(self.weights) or not sum(self.weights) > 0.0:
            raise ConfigError("latencies_s and weights must be of one length, not all weights zero")

    def density(self, age_s: Array) -> Array:
        """Return the probability density of ages (n,) [1/s]; 0 for negative ones."""
        total = np.zeros(len(age_s))
        for latency, weight in zip(self.latencies_s, self.weights, strict=True):
            span = latency + self.period_s
            inside = (age_s >= latency) & (age_s <= latency + span)
            total += inside * (weight / span)
        return total / sum(self.weights)

    def draw(self, random: np.random.Generator) -> float:
        """Return an age [s]."""
        chosen = random.choice(len(self.weights), p=np.array(self.weights) / sum(self.weights))
        latency = self.latencies_s[int(chosen)]
        return latency + float(random.uniform(0.0, latency + self.period_s))
