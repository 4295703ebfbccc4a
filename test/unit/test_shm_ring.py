# SPDX-License-Identifier: Apache-2.0
"""The shared-memory ring: order, overwriting, reading in place, waiting, takeover."""

import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import vla_ros_core as core
from vla_ros.latency.stamp import LatencyStamp, StampKind

ROOT = Path(__file__).resolve().parents[2]
STAMP = LatencyStamp(kind=StampKind.LATENT).to_bytes()


@pytest.fixture
def name():
    ring_name = f"vla_ros.test{os.getpid()}.ring"
    yield ring_name
    core.ShmRing.unlink(ring_name)


def test_reader_gets_what_was_written_last(name):
    writer = core.ShmRing.create(name, 4, 100, 7)
    reader = core.ShmRing.open(name, 7)
    assert reader.read_latest() is None
    for i in range(1, 11):
        assert writer.write(STAMP, bytes([i] * i)) == i
    assert reader.read_latest() == (10, STAMP, bytes([10] * 10))
    assert reader.read_seq(7) == (STAMP, bytes([7] * 7))
    assert reader.read_seq(6) is None


def test_reading_into_a_buffer_of_ones_own(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    buffer = np.zeros(100, dtype=np.uint8)
    assert writer.read_latest_into(buffer) is None
    writer.write(STAMP, b"abc")
    assert writer.read_latest_into(buffer) == (1, STAMP, 3)
    assert bytes(buffer[:3]) == b"abc"
    assert writer.read_latest_into(np.zeros(2, dtype=np.uint8)) is None


def test_payload_too_long_is_refused_with_both_sizes(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    with pytest.raises(core.Error, match=r"100 bytes, got 101"):
        writer.write(STAMP, bytes(101))


def test_wrong_schema_is_refused(name):
    core.ShmRing.create(name, 4, 100, 7)
    with pytest.raises(core.Error, match="schema"):
        core.ShmRing.open(name, 8)


def test_absent_ring_is_an_error():
    with pytest.raises(core.Error, match="No such file"):
        core.ShmRing.open("vla_ros.test.absent")


def test_second_living_writer_is_refused(name):
    first = core.ShmRing.create(name, 4, 100, 0)
    with pytest.raises(core.Error, match=f"being written by process {os.getpid()}"):
        core.ShmRing.create(name, 4, 100, 0)
    first.close()
    core.ShmRing.create(name, 4, 100, 0)


def test_reader_may_not_write(name):
    core.ShmRing.create(name, 4, 100, 0)
    with pytest.raises(core.Error, match="not opened for writing"):
        core.ShmRing.open(name).write(STAMP, b"x")


def test_ring_of_a_killed_writer_is_taken_over_and_numbers_go_on(name):
    script = (
        "import sys, signal, vla_ros_core as core\n"
        f"w = core.ShmRing.create({name!r}, 4, 100, 0)\n"
        f"stamp = bytes.fromhex({STAMP.hex()!r})\n"
        "for i in range(5): w.write(stamp, b'old')\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    reader = core.ShmRing.open(name)
    assert reader.writer_alive()
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=10)
    assert not reader.writer_alive()
    writer = core.ShmRing.create(name, 4, 100, 0)
    assert writer.write(STAMP, b"new") == 6
    assert reader.read_latest() == (6, STAMP, b"new")
    assert reader.writer_alive()


def test_other_geometry_replaces_the_ring_but_not_under_a_reader(name):
    old = core.ShmRing.create(name, 4, 100, 0)
    old.write(STAMP, b"old")
    reader = core.ShmRing.open(name)
    old.close()
    new = core.ShmRing.create(name, 4, 200, 0)
    assert new.head == 0
    assert reader.read_latest() == (1, STAMP, b"old")


def test_no_torn_read_while_a_writer_runs(name):
    writer = core.ShmRing.create(name, 4, 65536, 0)
    reader = core.ShmRing.open(name)
    rows = [np.full(65536, i, dtype=np.uint8) for i in range(251)]
    stop = threading.Event()

    def write():
        for i in range(20000):
            writer.write(STAMP, rows[i % 251])
            if stop.is_set():
                return

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while thread.is_alive():
        got = reader.read_latest()
        if got is None:
            continue
        seq, _, payload = got
        values = np.frombuffer(payload, dtype=np.uint8)
        assert values[0] == values[-1] == (seq - 1) % 251
        assert (values == values[0]).all()
        seen += 1
    stop.set()
    thread.join()
    assert seen > 10


def test_view_looks_into_the_slot_and_copies_nothing(name):
    writer = core.ShmRing.create(name, 2, 256, 0)
    assert writer.view_latest() is None
    writer.write(STAMP, bytes(range(100)))
    reader = core.ShmRing.open(name)
    seq, stamp, payload = reader.view_latest()
    assert (seq, stamp) == (1, STAMP)
    assert payload.ctypes.data % 64 == 0
    assert not payload.flags.writeable
    assert payload.tobytes() == bytes(range(100))
    writer.write(STAMP, b"other slot")
    assert reader.is_intact(1)
    writer.write(STAMP, b"same slot")
    assert not reader.is_intact(1)
    assert payload[:9].tobytes() == b"same slot"
    assert reader.view_seq(1) is None
    assert reader.view_seq(3)[2].tobytes() == b"same slot"


def test_view_outlives_its_ring(name):
    writer = core.ShmRing.create(name, 2, 256, 0)
    writer.write(STAMP, b"still here")
    reader = core.ShmRing.open(name)
    payload = reader.view_latest()[2]
    reader.close()
    del reader
    assert payload.tobytes() == b"still here"


def test_entry_filled_in_place_appears_with_commit_only(name):
    writer = core.ShmRing.create(name, 2, 256, 0)
    reader = core.ShmRing.open(name)
    room = writer.begin_write()
    assert len(room) == 256
    room[:3] = [1, 2, 3]
    assert reader.read_latest() is None
    assert writer.commit(STAMP, 3) == 1
    assert reader.read_latest() == (1, STAMP, bytes([1, 2, 3]))
    with pytest.raises(core.Error, match="nothing was begun"):
        writer.commit(STAMP, 3)
    writer.begin_write()
    with pytest.raises(core.Error, match="cannot publish 257 of at most 256 bytes"):
        writer.commit(STAMP, 257)
    with pytest.raises(core.Error, match="not opened for writing"):
        reader.begin_write()


def test_entry_that_is_begun_takes_the_oldest_slot_from_its_readers(name):
    writer = core.ShmRing.create(name, 2, 256, 0)
    writer.write(STAMP, b"one")
    writer.write(STAMP, b"two")
    writer.begin_write()
    assert not writer.is_intact(1)
    assert writer.read_latest() == (2, STAMP, b"two")


def test_waiting_reader_is_woken_by_the_writer_and_gives_up_in_time(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    reader = core.ShmRing.open(name)
    assert reader.wait(0, 0.0) == 0
    assert reader.wait(0, 0.01) == 0
    got = []
    thread = threading.Thread(target=lambda: got.append(reader.wait(0, 30.0)))
    thread.start()
    waiters = Path(f"/dev/shm/{name}")
    while struct.unpack_from("<I", waiters.read_bytes(), 132)[0] == 0 and thread.is_alive():
        pass
    assert writer.write(STAMP, b"x") == 1
    thread.join(timeout=10)
    assert got == [1]
    assert reader.wait(0, 30.0) == 1
    assert struct.unpack_from("<I", waiters.read_bytes(), 132)[0] == 0


def test_wait_hears_a_signal(name):
    """Ctrl-C while a reader waits for a writer that never comes."""
    script = (
        "import vla_ros_core as core\n"
        f"ring = core.ShmRing.prepare({name!r}, 4, 100, 0)\n"
        "print('ready', flush=True)\n"
        "ring.wait(0, float('inf'))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors


def test_heartbeat_tells_when_the_writer_last_lived(name):
    reader = core.ShmRing.prepare(name, 4, 100, 0)
    assert reader.heartbeat_ns == 0
    writer = core.ShmRing.create(name, 4, 100, 0)
    begun = reader.heartbeat_ns
    assert begun > 0
    writer.write(STAMP, b"x")
    written = reader.heartbeat_ns
    assert written > begun
    writer.beat()
    assert reader.heartbeat_ns > written
    reader.beat()  # a reader has no heart to beat
    assert writer.writer_alive()


def test_stop_flag_counts_requests_of_everyone(name):
    first, second = core.StopFlag(name), core.StopFlag(name)
    before = first.count
    second.request()
    first.request()
    assert second.count == before + 2
