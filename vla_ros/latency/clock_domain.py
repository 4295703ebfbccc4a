# SPDX-License-Identifier: Apache-2.0
"""Whose clock an instant belongs to, and what to do with stamps of another one.

Only the host of the robot stamps. Instants of another host's CLOCK_MONOTONIC mean nothing here,
unless somebody has measured how the clocks differ, and how well that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.errors import ConfigError
from vla_ros.latency.stamp import ClockDomain, LatencyStamp

_INSTANTS = (
    "capture_oldest_ns",
    "capture_newest_ns",
    "state_ns",
    "request_ns",
    "infer_start_ns",
    "infer_end_ns",
    "publish_ns",
    "target0_ns",
    "soft_expire_ns",
    "hard_expire_ns",
)


@dataclass(frozen=True, kw_only=True)
class ClockOffset:
    """How another host's CLOCK_MONOTONIC differs from ours.

    Attributes:
        clock_id: boot id of the other host, 16 bytes.
        offset_ns: its clock minus ours.
        uncertainty_ns: how far off that may be, either way; at least 0.
    """

    clock_id: bytes
    offset_ns: int
    uncertainty_ns: int

    def __post_init__(self) -> None:
        if len(self.clock_id) != 16 or not any(self.clock_id):
            raise ConfigError(f"clock_id must be a boot id of 16 bytes, got {self.clock_id.hex()}")
        if self.uncertainty_ns < 0:
            raise ConfigError(f"uncertainty_ns must be >= 0, got {self.uncertainty_ns}")


class ClockGate:
    """Lets stamps of our own clock through, converts those of known clocks, refuses the rest."""

    def __init__(self, own_clock_id: bytes, offsets: Iterable[ClockOffset] = ()) -> None:
        self._own = own_clock_id
        self._offsets = {o.clock_id: o for o in offsets}

    def to_own(self, stamp: LatencyStamp) -> LatencyStamp | None:
        """Return the stamp in our clock, or None if nobody knows how to get there.

        The uncertainty is added to ``clock_err_ns``, which ``usable_until_ns`` takes off the hard
        expiry: nothing is acted on for longer than its own host would have allowed.
        """
        if stamp.clock_domain is not ClockDomain.MONOTONIC:
            return None
        if stamp.clock_id == self._own:
            return stamp
        offset = self._offsets.get(stamp.clock_id)
        return None if offset is None else _convert(stamp, offset, self._own)


def _convert(stamp: LatencyStamp, offset: ClockOffset, own: bytes) -> LatencyStamp:
    changes: dict[str, object] = {"clock_id": own}
    changes["clock_err_ns"] = stamp.clock_err_ns + offset.uncertainty_ns
    for name in _INSTANTS:
        instant = getattr(stamp, name)
        if instant == 0:  # not set, which no offset changes
            continue
        changes[name] = instant - offset.offset_ns
    return stamp.replace(**changes)
