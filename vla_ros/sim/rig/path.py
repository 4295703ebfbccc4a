# SPDX-License-Identifier: Apache-2.0
"""How far along a path a motion with limited speed and acceleration is at given times."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def arrival_s(length_m: float, speed_m_s: float, top_m_s: float, accel_m_s2: float) -> float:
    """Return how long a motion takes that begins at ``speed_m_s`` and ends at rest."""
    return _phases(length_m, speed_m_s, top_m_s, accel_m_s2)[3]


def distance_at(
    times_s: Array, length_m: float, speed_m_s: float, top_m_s: float, accel_m_s2: float
) -> Array:
    """Return the distance travelled (H,) [m] at ``times_s`` (H,): trapezoidal speed, then rest.

    Where the path is too short to stop on, the deceleration is as large as it must be.
    """
    start, peak, ends, total = _phases(length_m, speed_m_s, top_m_s, accel_m_s2)
    t = np.clip(times_s, 0.0, total)
    up_s, cruise_end_s = ends
    up = start * t + 0.5 * accel_m_s2 * t**2
    up_m = 0.5 * (start + peak) * up_s
    cruise = up_m + peak * (t - up_s)
    left_s = total - t
    brake_s = total - cruise_end_s
    brake = 0.5 * peak / brake_s if brake_s > 0.0 else 0.0
    down = length_m - brake * left_s**2
    return np.where(t < up_s, up, np.where(t < cruise_end_s, cruise, down))


def _phases(
    length_m: float, speed_m_s: float, top_m_s: float, accel_m_s2: float
) -> tuple[float, float, tuple[float, float], float]:
    """Return first speed, peak speed, (end of speeding up, end of cruising), total time."""
    if length_m <= 0.0:
        return 0.0, 0.0, (0.0, 0.0), 0.0
    v0 = min(max(speed_m_s, 0.0), top_m_s)
    needed_m = 0.5 * v0**2 / accel_m_s2
    if needed_m >= length_m:  # brake at once, harder than asked for
        total = 2.0 * length_m / v0
        return v0, v0, (0.0, 0.0), total
    peak = min(top_m_s, math.sqrt(accel_m_s2 * length_m + 0.5 * v0**2))
    up_s = (peak - v0) / accel_m_s2
    down_s = peak / accel_m_s2
    up_m = 0.5 * (v0 + peak) * up_s
    cruise_s = max(0.0, (length_m - up_m - 0.5 * peak * down_s) / peak)
    return v0, peak, (up_s, up_s + cruise_s), up_s + cruise_s + down_s


def along(points: Array, distances_m: Array) -> Array:
    """Return the points (H, 3) at distances along a polyline ``points`` (P, 3) [m]."""
    steps = np.sqrt(((points[1:] - points[:-1]) ** 2).sum(axis=1))
    ends = np.concatenate([[0.0], np.cumsum(steps)])
    return np.stack([np.interp(distances_m, ends, points[:, i]) for i in range(3)], axis=1)


def length_of(points: Array) -> float:
    """Return the length of a polyline (P, 3) [m]."""
    return float(np.sqrt(((points[1:] - points[:-1]) ** 2).sum(axis=1)).sum())
