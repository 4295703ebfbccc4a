# SPDX-License-Identifier: Apache-2.0
"""latent_bridge_node in real processes: ring to topic to ring, and what it refuses on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from vla_ros_msgs.msg import Latent as LatentMsg

import vla_ros_core as core
from vla_ros.latency.codec import encode_tensors
from vla_ros.latency.ring import LatentReader, LatentWriter
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.nodes.conversions import latent_to_msg
from vla_ros.nodes.lifecycle import LifecycleDriver
from vla_ros.nodes.processes import remove_shared_memory, run_environment, take_domain
from vla_ros.types import Latent

pytestmark = pytest.mark.ros
LIMIT_S = 30.0
S = 1_000_000_000
FOREIGN = bytes(range(1, 17))
OFFSET_NS = 3600 * S
UNCERTAINTY_NS = 5_000_000


class Bridges:
    """Bridges as processes, brought up, and a node beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        domain, self._lock = take_domain()
        self.prefix = f"vla_ros.d{domain}.test"
        os.environ.update(run_environment(domain))
        remove_shared_memory(self.prefix)
        rclpy.init(domain_id=domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("test_client")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.values: dict[str, str] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def start(self, name: str = "bridge", **parameters: Any) -> str:
        """Start a bridge and activate it; return the name of its ring."""
        prefix = f"{self.prefix}.{name}"
        command = [sys.executable, "-m", "vla_ros.nodes", "latent_bridge_node", "--ros-args"]
        command += ["-r", f"__node:={name}", "-p", f"shm_prefix:={prefix}"]
        for key, value in parameters.items():
            text = f"'{value}'" if isinstance(value, str) else str(value)
            command += ["-p", f"{key}:={text}"]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        driver = LifecycleDriver(self.node)
        driver.add(f"/{name}")

        def is_up() -> bool:
            driver.tick(time.monotonic_ns())
            assert not driver.problems(), (self._folder / f"{name}.log").read_text()
            return driver.is_active([f"/{name}"])

        self.wait(f"{name} to be active", is_up)
        driver.remove(f"/{name}")
        return f"{prefix}.latent"

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            self._executor.spin_once(timeout_sec=0.02)
            assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s for {what}, in vain"

    def count(self, reason: str) -> int:
        return int(self.values.get(reason, "0"))

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=10)
        self.node.destroy_node()
        rclpy.try_shutdown()
        remove_shared_memory(self.prefix)
        self._lock.close()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == "/bridge":
                self.values = {v.key: v.value for v in status.values}


@pytest.fixture
def bridges(tmp_path: Path) -> Iterator[Bridges]:
    started = Bridges(tmp_path)
    yield started
    started.close()


def stamp(seq: int, **changes: Any) -> LatencyStamp:
    now_ns = core.monotonic_ns()
    return LatencyStamp(
        kind=StampKind.LATENT,
        seq=seq,
        clock_id=core.clock_id(),
        episode_id=4,
        instruction_id=2,
        capture_oldest_ns=now_ns,
        capture_newest_ns=now_ns,
        publish_ns=now_ns,
        hard_expire_ns=now_ns + 60 * S,
    ).replace(**changes)


def tensors(number: int) -> dict[str, Any]:
    return {
        "tokens": np.full((50_000, 4), number, dtype=np.float32),
        "mask": np.arange(7) % 2 == number % 2,
        "empty": np.zeros((0, 3)),
    }


def test_latents_go_from_ring_to_topic_to_ring_unchanged(bridges: Bridges) -> None:
    source = bridges.start("source", direction="to_topic", topic="between")
    target = bridges.start("target", direction="to_ring", topic="between", max_latent_mb=2.0)
    writer, reader = LatentWriter(source, 2 << 20), LatentReader(target)
    sent: dict[int, LatencyStamp] = {}

    def send() -> bool:
        number = len(sent) + 1
        sent[number] = stamp(number)
        writer.write(tensors(number), sent[number])
        return reader.newest() is not None

    bridges.wait("the first latent", send)
    for _ in range(3):
        send()
        number = len(sent)
        bridges.wait("the newest latent", lambda: reader.newest().stamp.seq == number)  # noqa: B023
        latent = reader.newest().copy()
        assert latent.stamp == sent[number]
        assert encode_tensors(latent.tensors) == encode_tensors(tensors(number))


def test_bridge_follows_a_writer_that_comes_back_with_another_ring(bridges: Bridges) -> None:
    source = bridges.start("source", direction="to_topic")
    received: list[LatentMsg] = []
    bridges.node.create_subscription(LatentMsg, "latent", received.append, 10)
    bridges.wait("the topic", lambda: bridges.node.count_publishers("latent") > 0)
    for number, size in ((1, 1 << 20), (2, 2 << 20)):
        writer = LatentWriter(source, size)

        def send(number: int = number, writer: LatentWriter = writer) -> bool:
            writer.write(tensors(number), stamp(number))
            return bool(received) and received[-1].stamp.seq == number

        bridges.wait(f"latents of writer {number}", send)
        writer.close()


def test_what_the_latent_buffer_refuses_the_bridge_refuses_too(bridges: Bridges) -> None:
    ring = bridges.start(direction="to_ring")
    publisher = bridges.node.create_publisher(LatentMsg, "latent", 10)
    bridges.wait("the subscription", lambda: publisher.get_subscription_count() > 0)
    reader = LatentReader(ring)

    def offer(reason: str, given: LatencyStamp, value: float = 0.0) -> None:
        latent = Latent(tensors={"a": np.array([value])}, stamp=given)
        before = bridges.count(reason)
        publisher.publish(latent_to_msg(latent))
        bridges.wait(reason, lambda: bridges.count(reason) > before)

    good = stamp(1)
    offer("accepted", good)
    offer("out of order", good)
    offer("expired", stamp(2, hard_expire_ns=1))
    offer("wrong episode", stamp(3, episode_id=3))
    offer("wrong instruction", stamp(4, instruction_id=1))
    offer("clock of another host", stamp(5, clock_id=FOREIGN))
    offer("captured in the future", stamp(6, capture_oldest_ns=core.monotonic_ns() + 10 * S))
    offer("not finite", stamp(7), float("nan"))
    message = latent_to_msg(Latent(tensors={"a": np.zeros(3)}, stamp=stamp(8)))
    message.tensors[0].shape = [4]
    before = bridges.count("unreadable")
    publisher.publish(message)
    bridges.wait("unreadable", lambda: bridges.count("unreadable") > before)
    newest = reader.newest()
    assert (newest.seq, newest.stamp) == (1, good)
    offer("accepted", stamp(9, instruction_id=3))
    assert reader.newest().stamp.seq == 9


def test_known_clock_of_another_host_is_converted_and_valid_for_less_time(bridges: Bridges) -> None:
    ring = bridges.start(
        direction="to_ring",
        foreign_clock_id=FOREIGN.hex(),
        clock_offset_ms=OFFSET_NS / 1e6,
        clock_uncertainty_ms=UNCERTAINTY_NS / 1e6,
    )
    publisher = bridges.node.create_publisher(LatentMsg, "latent", 10)
    bridges.wait("the subscription", lambda: publisher.get_subscription_count() > 0)
    here = stamp(1)
    there = here.replace(
        clock_id=FOREIGN,
        **{
            name: getattr(here, name) + OFFSET_NS
            for name in ("capture_oldest_ns", "capture_newest_ns", "publish_ns", "hard_expire_ns")
        },
    )
    publisher.publish(latent_to_msg(Latent(tensors={"a": np.zeros(1)}, stamp=there)))
    reader = LatentReader(ring)
    bridges.wait("the latent", lambda: reader.newest() is not None)
    arrived = reader.newest().stamp
    assert arrived == here.replace(clock_err_ns=UNCERTAINTY_NS)
    assert arrived.usable_until_ns == here.hard_expire_ns - UNCERTAINTY_NS
