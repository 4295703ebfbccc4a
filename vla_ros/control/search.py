# SPDX-License-Identifier: Apache-2.0
"""Search for a hole with a peg: a spiral over the surface, from what the arm itself can sense."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting

Array = NDArray[np.float64]

_SLOW_RAD = 2.0 * math.pi  # at this angle the spiral runs at half its speed


@dataclass(frozen=True, kw_only=True)
class SpiralConfig:
    """An Archimedean spiral at constant speed.

    Raises:
        ConfigError: naming value and allowed range.
    """

    pitch_m: float = setting(0.0004, "distance of neighbouring turns", unit="m", ge=1e-5, le=0.05)
    radius_m: float = setting(0.0040, "largest radius", unit="m", ge=1e-4, le=0.1)
    speed_m_s: float = setting(0.010, "speed along the spiral", unit="m/s", ge=1e-4, le=0.2)

    def __post_init__(self) -> None:
        check_fields(self)


class Spiral:
    """Offset from the start as a function of time: out to the largest radius, in again, and so on.

    It always turns the same way, so the way in crosses the way out. The inner turns are slower:
    with a constant speed the direction would change without bound at the centre.
    """

    def __init__(self, config: SpiralConfig | None = None) -> None:
        self.config = config or SpiralConfig()
        c = self.config
        self._per_rad_m = c.pitch_m / (2.0 * math.pi)
        self._last_rad = c.radius_m / self._per_rad_m
        self._length_m = self._per_rad_m * self._last_rad * (0.5 * self._last_rad + _SLOW_RAD)
        self.pass_s = self._length_m / c.speed_m_s

    def offset(self, time_s: float) -> tuple[Array, Array]:
        """Return offset (2,) [m] and velocity (2,) [m/s] at a time since the start [s]."""
        number, rest_s = divmod(max(0.0, time_s), self.pass_s)
        inward = int(number) % 2 == 1
        way_m = self.config.speed_m_s * (self.pass_s - rest_s if inward else rest_s)
        angle = math.sqrt(_SLOW_RAD**2 + 2.0 * way_m / self._per_rad_m) - _SLOW_RAD
        radius = self._per_rad_m * angle
        rate = self.config.speed_m_s / (self._per_rad_m * (angle + _SLOW_RAD))
        turn = number * self._last_rad + (self._last_rad - angle if inward else angle)
        radial = np.array([math.cos(turn), math.sin(turn)])
        across = np.array([-radial[1], radial[0]])
        outward_m = -self._per_rad_m if inward else self._per_rad_m
        return radius * radial, rate * (outward_m * radial + radius * across)


class Phase(enum.Enum):
    """Where an insertion stands."""

    APPROACH = "approach"
    SEARCH = "search"
    INSERT = "insert"


@dataclass(frozen=True, kw_only=True)
class InsertionConfig:
    """Settings of an insertion along the believed axis.

    Raises:
        ConfigError: naming value and allowed range.
    """

    contact_n: float = setting(2.5, "axial force that means contact", unit="N", ge=0.1, le=50.0)
    approach_n: float = setting(4.0, "push until contact", unit="N", ge=0.0, le=50.0)
    search_n: float = setting(6.0, "push during the search", unit="N", ge=0.0, le=50.0)
    insert_n: float = setting(12.0, "push into the hole", unit="N", ge=0.0, le=50.0)
    drop_m: float = setting(
        0.0012, "sinking below the surface that means the hole", unit="m", ge=1e-4, le=0.02
    )
    filter_s: float = setting(
        0.010, "time constant on the measured force", unit="s", ge=1e-4, le=1.0
    )
    search: bool = setting(True, "search at all")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class InsertionCommand:
    """What the compliant law is to follow; base frame.

    Attributes:
        position: (3,) [m]. velocity: (3,) [m/s].
        push_n: force along the axis of the tool [N].
        phase: its gains are the caller's choice.
    """

    position: Array
    velocity: Array
    push_n: float
    phase: Phase


class Insertion:
    """Touch the surface, search for the hole, push into it.

    Only the tool's own pose and the measured force are used. Nothing holds the tool along its axis
    but damping: the push decides how hard it presses.

    Args:
        hole: (4, 4) believed pose of the hole's rim in base; its z axis points out of the hole.
        config: thresholds and pushes.
        spiral: path of the search.
    """

    def __init__(
        self,
        hole: Array,
        config: InsertionConfig | None = None,
        spiral: Spiral | None = None,
    ) -> None:
        self.config = config or InsertionConfig()
        self._hole = hole
        self._spiral = spiral or Spiral()
        self.phase = Phase.APPROACH
        self._since_s = 0.0
        self._axial_n = 0.0
        self._last_s: float | None = None
        self._surface_m = 0.0
        self._centre = np.zeros(2)

    def update(self, time_s: float, position: Array, force: Array) -> InsertionCommand:
        """Return what to do now.

        Args:
            time_s: time of the measurement [s]; must not decrease.
            position: (3,) measured tip in base [m].
            force: (3,) measured force of the tool on the world, base axes [N].
        """
        local = self._hole[:3, :3].T @ (position - self._hole[:3, 3])
        self._filter(time_s, -float(self._hole[:3, 2] @ force))
        c = self.config
        if self.phase is Phase.APPROACH and self._axial_n > c.contact_n:
            self._surface_m = local[2]
            self._enter(Phase.SEARCH if c.search else Phase.INSERT, time_s)
        elif self.phase is Phase.SEARCH and local[2] < self._surface_m - c.drop_m:
            self._centre = local[:2].copy()
            self._enter(Phase.INSERT, time_s)
        return self._command(time_s, local[2])

    def _enter(self, phase: Phase, time_s: float) -> None:
        self.phase, self._since_s = phase, time_s

    def _filter(self, time_s: float, axial_n: float) -> None:
        dt_s = 0.0 if self._last_s is None else time_s - self._last_s
        self._last_s = time_s
        share = 1.0 - math.exp(-dt_s / self.config.filter_s)
        if math.isfinite(axial_n):
            self._axial_n += share * (axial_n - self._axial_n)

    def _command(self, time_s: float, height_m: float) -> InsertionCommand:
        c = self.config
        offset, velocity = self._centre, np.zeros(2)
        push_n = {
            Phase.APPROACH: c.approach_n, Phase.SEARCH: c.search_n, Phase.INSERT: c.insert_n
        }[self.phase]  # fmt: skip
        if self.phase is Phase.SEARCH:
            offset, velocity = self._spiral.offset(time_s - self._since_s)
        R = self._hole[:3, :3]
        return InsertionCommand(
            position=self._hole[:3, 3] + R @ np.array([*offset, height_m]),
            velocity=R @ np.array([*velocity, 0.0]),
            push_n=push_n,
            phase=self.phase,
        )
