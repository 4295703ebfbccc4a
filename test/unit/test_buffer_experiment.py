# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

import vla_ros_core as core
from vla_ros.bench import buffer_experiment as experiment
from vla_ros.bench.peers import Handover, Log, fill, run_peers
from vla_ros.errors import VlaRosError

RING = "vla_ros.bench.ring_peer"


def row(strategy: str, size: int, p50: float, load: str = "idle") -> experiment.Row:
    return experiment.Row(
        strategy=strategy,
        cell=f"{size} {load}",
        bytes=size,
        load=load,
        n=10,
        p50_us=p50,
        p99_us=2 * p50,
        max_us=3 * p50,
        torn=0,
        loop_p50_us=30.0,
        loop_p99_us=100.0,
        loop_max_us=200.0,
    )


ROWS = [
    row("none", 0, 0.0),
    row("ring_polling", 4096, 5.0),
    row("topic", 4096, 150.0),
    row("ring_polling", 4096, 6.0, "busy"),
]


def test_every_cell_is_a_line_of_the_table(tmp_path: Path) -> None:
    experiment.write_csv(ROWS, tmp_path / "buffer.csv")
    with (tmp_path / "buffer.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["strategy"] for line in lines] == [r.strategy for r in ROWS]
    assert lines[2]["p50_us"] == "150.0"


def test_page_compares_with_the_ring_and_says_what_was_left_out() -> None:
    torn = experiment.TornReads(
        mode="copy",
        payload_bytes=16 << 20,
        reads=100,
        torn=0,
        retried_fraction=0.31,
        entries=120,
        seconds=1.0,
    )
    text = experiment.to_markdown(ROWS, [torn], ["gRPC + pickle: needs grpc"])
    assert "| 4 KiB | topic, default | 10 | 150.0 | 300 | 450 | 30.0 | 0 |" in text
    assert "| copy | 16 MiB | 100 | 0 | 31.0 % | 120 | 1 |" in text
    assert "Left out: gRPC + pickle: needs grpc." in text


def test_same_rows_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        experiment.plot(ROWS, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_wrong_word_of_a_payload_is_noted() -> None:
    payload, log = np.zeros(64, dtype=np.uint8), Log()
    fill(payload, 7)
    log.note(100, 150, payload, 7)
    payload[63] ^= 1
    log.note(100, 150, payload, 7)
    assert (log.durations_ns, log.torn) == ([50, 50], 1)


@pytest.mark.parametrize("options", [(), ("wait",)])
def test_ring_hands_over_between_two_processes_and_leaves_nothing(options: tuple[str, ...]) -> None:
    name = f"vla_ros.test{os.getpid()}.peers"
    result = run_peers(RING, Handover(channel=name, bytes=65536, count=20), options=options)
    assert (result.n, result.torn) == (20, 0)
    assert 0.0 < result.p50 <= result.p99 <= result.max
    assert not list(Path("/dev/shm").glob(f"{name}*"))


def test_peer_that_cannot_start_is_an_error_with_its_last_line() -> None:
    name = f"vla_ros.test{os.getpid()}.taken"
    holder = core.ShmRing.create(f"{name}.answer", 2, 8)
    try:
        with pytest.raises(VlaRosError, match="being written by process"):
            run_peers(RING, Handover(channel=name, bytes=64, count=1))
    finally:
        holder.close()
        for suffix in ("", ".answer", ".sent"):
            core.ShmRing.unlink(name + suffix)


def test_sender_that_fails_ends_its_receiver(tmp_path: Path) -> None:
    (tmp_path / "half_peer.py").write_text(
        "import threading\n"
        "from vla_ros.bench.peers import peer_main\n"
        "def send(series, options):\n"
        "    raise RuntimeError('no way out')\n"
        "def receive(series, options, ready):\n"
        "    ready()\n"
        "    threading.Event().wait()\n"
        "peer_main(send, receive)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    with pytest.raises(VlaRosError, match="half_peer cannot send: RuntimeError: no way out"):
        run_peers(
            "half_peer", Handover(channel="", bytes=8, count=1), environment=environment, limit_s=60
        )
