# SPDX-License-Identifier: Apache-2.0
"""The one converter between CLOCK_MONOTONIC, in which everything is stamped, and ROS time."""

from __future__ import annotations

import time
from collections.abc import Callable

from builtin_interfaces.msg import Time

from vla_ros.clock import NS_PER_S

_BRACKETS = 5


class TimeConverter:
    """Maps CLOCK_MONOTONIC to ROS time with the offset measured once, so stamps never jump."""

    def __init__(self, monotonic_ns: int, system_ns: int) -> None:
        self._offset_ns = system_ns - monotonic_ns

    @classmethod
    def measure(
        cls,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        system_ns: Callable[[], int] = time.time_ns,
    ) -> TimeConverter:
        """Read both clocks a few times; the tightest bracket is the one least disturbed."""
        readings = [(monotonic_ns(), system_ns(), monotonic_ns()) for _ in range(_BRACKETS)]
        before, system, after = min(readings, key=lambda r: r[2] - r[0])
        return cls((before + after) // 2, system)

    def to_ros(self, monotonic_ns: int) -> Time:
        """Return the ROS time of an instant of CLOCK_MONOTONIC [ns]."""
        seconds, nanoseconds = divmod(monotonic_ns + self._offset_ns, NS_PER_S)
        return Time(sec=seconds, nanosec=nanoseconds)

    def to_monotonic(self, stamp: Time) -> int:
        """Return the instant of CLOCK_MONOTONIC [ns] of a ROS time."""
        return int(stamp.sec * NS_PER_S + stamp.nanosec - self._offset_ns)
