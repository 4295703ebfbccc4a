# SPDX-License-Identifier: Apache-2.0
"""Messages per second into a bag: ours, which survives a crash, beside rosbags alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from vla_ros.recording.bag_writer import BagConfig, BagWriter
from vla_ros.recording.episode import EpisodeInfo, Outcome
from vla_ros.recording.message_types import MessageTypes

_TYPE = "std_msgs/msg/String"
_TOPIC = "/bench"
_POLL_EVERY = 500
# CDR of a String of 252 characters: header, length, text with its terminating zero.
_MESSAGE = b"\x00\x01\x00\x00" + (253).to_bytes(4, "little") + b"x" * 252 + b"\x00"


def measure_throughput(n: int = 100_000) -> tuple[float, float, int]:
    """Return (ours, rosbags alone, n) [messages/s] for small messages."""
    with tempfile.TemporaryDirectory(prefix="vla_ros_bench_") as folder:
        ours = n / _write_ours(Path(folder) / "ours", n)
        alone = n / _write_alone(Path(folder) / "alone", n)
    return ours, alone, n


def _write_ours(path: Path, n: int) -> float:
    info = EpisodeInfo(episode_id=1, instruction="bench", start_ns=time.time_ns())
    writer = BagWriter(path.parent, path.name, info, MessageTypes(), BagConfig(min_free_bytes=0))
    writer.add_topic(_TOPIC, _TYPE)
    start = time.perf_counter()
    for i in range(n):
        writer.write(_TOPIC, i + 1, _MESSAGE)
        if i % _POLL_EVERY == 0:
            writer.poll(time.monotonic_ns())
    writer.close(info.replace(outcome=Outcome.SUCCESS, end_ns=time.time_ns()))
    return time.perf_counter() - start


def _write_alone(path: Path, n: int) -> float:
    text, digest = MessageTypes().definition(_TYPE)
    start = time.perf_counter()
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(_TOPIC, _TYPE, msgdef=text, rihs01=digest)
        for i in range(n):
            writer.write(connection, i + 1, _MESSAGE)
    return time.perf_counter() - start
