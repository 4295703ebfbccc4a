# SPDX-License-Identifier: Apache-2.0
"""Hands payloads over by shared-memory ring; the receiver polls, or sleeps with option ``wait``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import vla_ros_core as core
from vla_ros.bench.peers import Handover, Log, fill, pause, peer_main
from vla_ros.latency.stamp import LatencyStamp, StampKind

_SLOTS = 4


def send(series: Handover, options: tuple[str, ...]) -> None:
    """Write one payload after the other, each when the one before has arrived."""
    ring = core.ShmRing.create(series.channel, _SLOTS, series.bytes)
    answers = core.ShmRing.prepare(f"{series.channel}.answer", 2, 8)
    times = core.ShmRing.create(f"{series.channel}.sent", 2, 8 * series.total)
    payload = np.empty(series.bytes, dtype=np.uint8)
    sent_ns = np.empty(series.total, dtype=np.int64)
    for number in range(1, series.total + 1):
        fill(payload, number)
        stamp = LatencyStamp(kind=StampKind.LATENT, seq=number).to_bytes()
        sent_ns[number - 1] = time.monotonic_ns()
        ring.write(stamp, payload)
        while answers.wait(number - 1, 1.0) == 0:
            pass
        pause(series.gap_s)
    # Afterwards, as a stamp with the time could only be made within the time that is measured.
    times.write(stamp, sent_ns)


def receive(series: Handover, options: tuple[str, ...], ready: Callable[[], None]) -> Log:
    """Look at every payload where it lies."""
    names = [series.channel, f"{series.channel}.answer", f"{series.channel}.sent"]
    ring = core.ShmRing.prepare(names[0], _SLOTS, series.bytes)
    answers = core.ShmRing.create(names[1], 2, 8)
    times = core.ShmRing.prepare(names[2], 2, 8 * series.total)
    stamp = LatencyStamp(kind=StampKind.OBSERVATION).to_bytes()
    log, held = Log(), []
    waits = "wait" in options
    ready()
    for number in range(1, series.total + 1):
        if waits:
            while ring.wait(number - 1, 1.0) == 0:
                pass
        else:
            while ring.head < number:
                pass
        seq, _, payload = ring.view_latest()
        is_valid = ring.is_intact(seq)
        held.append(time.monotonic_ns())
        log.note(0, 0, payload, number if is_valid else 0)
        answers.write(stamp, b"received")
    while times.wait(0, 1.0) == 0:
        pass
    sent = np.frombuffer(times.read_latest()[2], dtype=np.int64)
    log.durations_ns = [int(h - s) for h, s in zip(held, sent, strict=True)]
    for name in names:
        core.ShmRing.unlink(name)
    return log


if __name__ == "__main__":
    peer_main(send, receive)
