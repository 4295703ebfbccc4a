# SPDX-License-Identifier: Apache-2.0
"""Handing data over, and recording it."""

from __future__ import annotations

import os

import numpy as np

import vla_ros_core as core
from vla_ros.bench.measurement import Measurement, compared, p50_us
from vla_ros.latency.stamp import LatencyStamp, StampKind

_STAMP = LatencyStamp(kind=StampKind.LATENT).to_bytes()


def measure_handovers(n: int) -> list[Measurement]:
    """Return the time to hand a latent over: ring against a ROS topic, same payload."""
    return [_handover("64KiB", 64 << 10, min(n, 500)), _handover("16MiB", 16 << 20, 20)]


def _handover(label: str, size: int, n: int) -> Measurement:
    from vla_ros.nodes.handover_bench import TopicHandover

    payload = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    ring_name = f"vla_ros.bench{os.getpid()}"
    writer = core.ShmRing.create(ring_name, 4, size)
    reader = core.ShmRing.open(ring_name)

    received = np.empty(size, dtype=np.uint8)

    def ours() -> object:
        writer.write(_STAMP, payload)
        return reader.read_latest_into(received)

    try:
        ring_us = p50_us(ours, n)
    finally:
        core.ShmRing.unlink(ring_name)
    with TopicHandover(payload) as topic:
        topic_us = p50_us(topic.once, n)
    return compared(
        f"latent.handover_{label}_p50",
        ring_us,
        topic_us,
        "us",
        n,
        "written to the shared-memory ring and copied out again; alternative: published and "
        "received as a ROS topic (Fast DDS), both within one process",
    )


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
