# SPDX-License-Identifier: Apache-2.0
"""Every field of the stamp with the values at its limits."""

from __future__ import annotations

import numpy as np

from vla_ros.latency.stamp import STAMP_DTYPE, ClockDomain, StampFlags, StampKind

TECHNICAL = {"magic", "version", "reserved", "crc32"}
FIELDS = [name for name in STAMP_DTYPE.names if name not in TECHNICAL]


def extremes(name: str) -> list:
    """What a field can hold at most and at least, as Python has it."""
    if name == "kind":
        return list(StampKind)
    if name == "clock_domain":
        return list(ClockDomain)
    if name == "flags":
        return [StampFlags(0), StampFlags(31), StampFlags(0xFFFF)]
    if name == "clock_id":
        return [bytes(16), bytes([255] * 16), bytes(range(16))]
    if name == "confidence":
        limits = np.finfo(np.float32)
        return [0.0, float(limits.max), float(limits.min), float(limits.tiny), 1.0 / 3.0]
    limits = np.iinfo(STAMP_DTYPE[name])
    return [int(limits.min), int(limits.max), 1, 0x0102030405060708 % (int(limits.max) + 1)]


EXTREMES = [(name, value) for name in FIELDS for value in extremes(name)]
