# SPDX-License-Identifier: Apache-2.0
"""The file of a ring: whose it is, what is in it, crashes, cut-off files, two who start at once."""

import fcntl
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

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
