# SPDX-License-Identifier: Apache-2.0
"""Recording data."""

from __future__ import annotations

from vla_ros.bench.measurement import Measurement, compared


def measure_recording() -> Measurement:
    """Return messages per second into a bag: ours against the rosbags writer alone."""
    from vla_ros.recording.throughput import measure_throughput

    ours, alternative, n = measure_throughput()
    return compared(
        "recording.throughput",
        ours,
        alternative,
        "messages/s",
        n,
        "small messages written to a crash-safe bag; alternative: the rosbags writer without "
        "periodic flushes (larger is better)",
    )
