# SPDX-License-Identifier: Apache-2.0
"""The shared-memory ring: order, overwriting, takeover after a crash, two writers."""

import fcntl
import os
import re
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


def test_file_is_ours_alone(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    path = Path(f"/dev/shm/{name}")
    assert path.stat().st_mode & 0o777 == 0o600
    writer.close()
    path.chmod(0o666)
    for attach in (lambda: core.ShmRing.open(name), lambda: core.ShmRing.create(name, 4, 100, 0)):
        with pytest.raises(core.Error, match=f"others may write it: remove /dev/shm/{name}"):
            attach()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(name):
    core.ShmRing.create(name, 4, 100, 0).close()
    os.chown(f"/dev/shm/{name}", 12345, -1)
    with pytest.raises(core.Error, match="belongs to user 12345"):
        core.ShmRing.open(name)


def test_link_is_not_followed(name, tmp_path):
    Path(f"/dev/shm/{name}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(core.Error, match="cannot open shared memory"):
        core.ShmRing.create(name, 4, 100, 0)
    assert not (tmp_path / "elsewhere").exists()


def test_more_than_there_is_room_for_is_an_error_at_once_and_leaves_nothing(name):
    with pytest.raises(core.Error, match=r"cannot reserve \d+ bytes .*/dev/shm is full"):
        core.ShmRing.create(name, 4, 1 << 39, 0)
    assert not Path(f"/dev/shm/{name}").exists()


FULL = """
import subprocess, sys
import vla_ros_core as core
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"], check=True)
try:
    core.ShmRing.create("ring", 4, 1 << 20, 0)
except core.Error as error:
    text = str(error)
    sys.exit(0 if "No space left" in text and "/dev/shm is full" in text else text)
sys.exit("no error")
"""


def test_full_shared_memory_is_an_error_at_creation_and_no_crash_later():
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*command, sys.executable, "-c", FULL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, b"NOTARING", "is not a ring"),
        (8, struct.pack("<I", 1), "has layout version 1, this program needs 2"),
        (16, struct.pack("<Q", 1 << 40), "is smaller than what its header says"),
        (12, struct.pack("<I", 5000), "is smaller than what its header says"),
        (40, bytes(16), "was made before this host last started"),
    ],
)
def test_file_that_is_not_what_we_write_is_refused_by_readers_and_replaced_by_writers(
    name, offset, value, reason
):
    stale = core.ShmRing.create(name, 4, 100, 0)
    stale.write(STAMP, b"stale")
    stale.close()
    path = Path(f"/dev/shm/{name}")
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)
    with pytest.raises(core.Error, match=reason):
        core.ShmRing.open(name)
    fresh = core.ShmRing.create(name, 4, 100, 0)
    assert fresh.head == 0
    assert core.ShmRing.open(name).read_latest() is None


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 4097])
def test_file_cut_off_by_a_crash_is_refused_by_readers_and_replaced_by_writers(name, size):
    core.ShmRing.create(name, 4, 100, 0).close()
    os.truncate(f"/dev/shm/{name}", size)
    with pytest.raises(core.Error, match=r"is not a ring|is smaller than"):
        core.ShmRing.open(name)
    assert core.ShmRing.create(name, 4, 100, 0).write(STAMP, b"new") == 1


@pytest.mark.parametrize(
    ("slots", "payload_bytes", "schema", "reason"),
    [(8, 100, 0, "has 4 slots"), (4, 200, 0, "of 100 bytes, expected"), (4, 100, 9, "has schema")],
)
def test_ring_of_a_living_writer_is_not_taken_away_by_other_settings(
    name, slots, payload_bytes, schema, reason
):
    writer = core.ShmRing.create(name, 4, 100, 0)
    for attach in (core.ShmRing.create, core.ShmRing.prepare):
        with pytest.raises(core.Error, match=f"{reason}.*being written by process {os.getpid()}"):
            attach(name, slots, payload_bytes, schema)
    writer.write(STAMP, b"undisturbed")
    assert core.ShmRing.open(name).read_latest()[2] == b"undisturbed"


def test_reader_of_a_replaced_ring_is_told(name):
    core.ShmRing.create(name, 4, 100, 0).close()
    reader = core.ShmRing.open(name)
    assert not reader.is_replaced
    core.ShmRing.create(name, 4, 200, 0)
    assert reader.is_replaced
    assert not reader.writer_alive()


def test_forked_child_is_not_the_writer(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    child = os.fork()
    if child == 0:
        try:
            writer.write(STAMP, b"child")
        except core.Error:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert writer.write(STAMP, b"parent") == 1


def test_entry_that_a_writer_finished_but_did_not_announce_keeps_its_number(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    writer.write(STAMP, b"one")
    writer.write(STAMP, b"two")
    writer.close()
    with Path(f"/dev/shm/{name}").open("r+b") as file:
        file.seek(64)
        file.write(struct.pack("<Q", 1))  # died between the slot and the head
    assert core.ShmRing.open(name).head == 1
    writer = core.ShmRing.create(name, 4, 100, 0)
    assert writer.head == 2
    assert writer.write(STAMP, b"three") == 3


def test_writer_killed_in_the_middle_of_an_entry_leaves_the_others_whole(name):
    script = (
        "import os, signal, vla_ros_core as core\n"
        f"w = core.ShmRing.create({name!r}, 2, 100, 0)\n"
        f"stamp = bytes.fromhex({STAMP.hex()!r})\n"
        "w.write(stamp, b'one'); w.write(stamp, b'two')\n"
        "w.begin_write()[:] = 255\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=30)
    reader = core.ShmRing.open(name)
    assert reader.read_latest() == (2, STAMP, b"two")
    assert reader.read_seq(1) is None
    writer = core.ShmRing.create(name, 2, 100, 0)
    assert writer.write(STAMP, b"three") == 3
    assert reader.read_seq(3) == (STAMP, b"three")


def test_damaged_stamp_is_refused_on_the_way_in_and_on_the_way_out(name):
    writer = core.ShmRing.create(name, 4, 100, 0)
    for at, match in ((0, "magic"), (4, "version"), (100, "checksum")):
        damaged = bytearray(STAMP)
        damaged[at] ^= 1
        with pytest.raises(core.Error, match=match):
            writer.write(bytes(damaged), b"x")
    writer.write(STAMP, b"x")
    with Path(f"/dev/shm/{name}").open("r+b") as file:
        file.seek(4096 + 64 + 100)
        file.write(b"\x55")
    assert writer.read_latest() is None
    assert writer.view_latest() is None


def test_two_who_start_together_end_up_with_one_writer(name):
    script = (
        "import sys, vla_ros_core as core\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        f"    w = core.ShmRing.create({name!r}, 4, 1 << 20, int(sys.argv[1]))\n"
        "except core.Error as e:\n"
        "    print('refused', e, flush=True)\n"
        "else:\n"
        "    print('writes', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    core.ShmRing.create(name, 4, 100, 0).close()  # a stale one in both their ways
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(i % 2)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    assert all(child.stdout.readline() == "ready\n" for child in children)
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.stdout.readline().split()[0] for child in children]
    for child in children:
        child.communicate("\n", timeout=10)
    assert sorted(answers) == ["refused", "refused", "refused", "writes"]


def test_layout_is_the_table_in_the_docs(name):
    text = (ROOT / "docs/latent-buffer.md").read_text()
    table = {
        field: (int(offset), int(size))
        for offset, size, field in re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)` \|", text, re.M)
    }

    def field(data, key, base=0):
        offset, size = table[key]
        raw = data[base + offset : base + offset + size]
        return int.from_bytes(raw, "little") if size <= 8 else raw

    writer = core.ShmRing.create(name, 3, 100, 77)
    for i in range(5):
        writer.write(STAMP, bytes([i] * 10))
    data = Path(f"/dev/shm/{name}").read_bytes()
    assert data[:8] == b"VLARING1"
    expected = {"version": 2, "n_slots": 3, "slot_bytes": 448, "payload_bytes": 100}
    expected |= {"schema_hash": 77, "head": 5, "writer_pid": os.getpid(), "replaced": 0}
    expected |= {"heartbeat_ns": writer.heartbeat_ns, "created_ns": writer.created_ns}
    expected |= {"notify": 5, "waiters": 0, "clock_id": core.clock_id()}
    assert {key: field(data, key) for key in expected} == expected
    slot = 4096 + (5 - 1) % 3 * 448
    assert field(data, "sequence", slot) == 2 * 5
    assert field(data, "bytes", slot) == 10
    assert field(data, "stamp", slot) == STAMP
    assert data[slot + table["payload"][0] :][:10] == bytes([4] * 10)


@pytest.mark.slow
def test_process_that_is_frozen_while_it_makes_a_ring_does_not_freeze_others(name):
    core.ShmRing.create(name, 4, 100, 0).close()
    with Path(f"/dev/shm/{name}").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for attach in (lambda: core.ShmRing.open(name), lambda: core.ShmRing.create(name, 4, 9)):
            with pytest.raises(core.Error, match="is it frozen"):
                attach()


def test_stop_flag_counts_requests_of_everyone(name):
    first, second = core.StopFlag(name), core.StopFlag(name)
    before = first.count
    second.request()
    first.request()
    assert second.count == before + 2
