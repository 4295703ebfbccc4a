# SPDX-License-Identifier: Apache-2.0
"""Latents in shared memory: in place, checked afterwards, from 1 kB to 32 MB."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_programs import build_program

import vla_ros_core as core
from vla_ros.errors import OverwrittenError, ShapeError, StaleDataError
from vla_ros.latency.ring import MAX_LATENT_BYTES, LatentReader, LatentWriter, WriterState
from vla_ros.latency.stamp import LatencyStamp, StampKind

S = 1_000_000_000
STAMP = LatencyStamp(kind=StampKind.LATENT, seq=3, confidence=0.5)
TENSORS = {"tokens": np.arange(12, dtype=np.float32).reshape(3, 4), "mask": np.ones(3, dtype=bool)}


@pytest.fixture
def name() -> Iterator[str]:
    ring_name = f"vla_ros.test{os.getpid()}.latent"
    yield ring_name
    core.ShmRing.unlink(ring_name)


@pytest.mark.parametrize("size", [1 << 10, 64 << 10, 5_000_000, MAX_LATENT_BYTES])
def test_latent_arrives_whole_aligned_and_uncopied(name: str, size: int) -> None:
    values = np.random.default_rng(size).integers(0, 255, size - 256, dtype=np.uint8)
    writer = LatentWriter(name, size, slots=2)
    writer.write({"values": values}, STAMP)
    with LatentReader(name).newest() as entry:
        assert entry.stamp == STAMP
        got = entry.tensors["values"]
        np.testing.assert_array_equal(got, values)
        assert got.ctypes.data % 64 == 0
        assert got.base is not None
        assert not got.flags.writeable
        assert np.shares_memory(got, entry.payload)


def test_use_beyond_the_life_of_a_slot_is_an_error_on_leaving(name: str) -> None:
    writer = LatentWriter(name, 4096, slots=2)
    writer.write(TENSORS, STAMP)

    def use() -> None:
        with LatentReader(name).newest() as entry:
            assert entry.is_intact()
            for _ in range(2):
                writer.write(TENSORS, STAMP)
            assert not entry.is_intact()

    with pytest.raises(OverwrittenError, match=r"entry 1 .* was overwritten while in use"):
        use()


def test_failure_inside_is_blamed_on_the_overwriting(name: str) -> None:
    writer = LatentWriter(name, 4096, slots=2)
    writer.write(TENSORS, STAMP)

    def use() -> None:
        with LatentReader(name).newest():
            writer.write(TENSORS, STAMP)
            writer.write(TENSORS, STAMP)
            raise ZeroDivisionError

    with pytest.raises(OverwrittenError) as caught:
        use()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert isinstance(caught.value, StaleDataError)


def test_failure_inside_stays_what_it_is_while_the_slot_is_intact(name: str) -> None:
    LatentWriter(name, 4096).write(TENSORS, STAMP)
    with pytest.raises(ZeroDivisionError), LatentReader(name).newest():
        raise ZeroDivisionError


def test_copy_is_not_overwritten(name: str) -> None:
    writer = LatentWriter(name, 4096, slots=2)
    writer.write(TENSORS, STAMP)
    entry = LatentReader(name).newest()
    latent = entry.copy()
    for _ in range(2):
        writer.write({"other": np.zeros(3)}, STAMP)
    np.testing.assert_array_equal(latent.tensors["tokens"], TENSORS["tokens"])
    with pytest.raises(OverwrittenError):
        entry.copy()


def test_payload_that_is_not_tensors_is_refused(name: str) -> None:
    ring = core.ShmRing.create(name, 2, 4096, 0)
    ring.write(STAMP.to_bytes(), b"not tensors at all")
    entry = LatentReader(name).newest()
    with pytest.raises(ShapeError, match="not a set of tensors"):
        _ = entry.tensors
    ring.write(STAMP.to_bytes(), b"something else")
    ring.write(STAMP.to_bytes(), b"something else")
    with pytest.raises(OverwrittenError):
        _ = entry.tensors


def test_latent_too_long_is_refused_with_both_sizes_and_disturbs_nobody(name: str) -> None:
    writer = LatentWriter(name, 1024, slots=2)
    writer.write(TENSORS, STAMP)
    with pytest.raises(ShapeError, match=r"latent has \d+ bytes, .* takes at most 1024"):
        writer.write({"big": np.zeros(1000)}, STAMP)
    assert writer.write(TENSORS, STAMP) == 2


def test_only_what_is_newer_is_returned(name: str) -> None:
    writer = LatentWriter(name, 4096)
    reader = LatentReader(name)
    assert reader.newest() is None
    assert not reader.wait(0, 0.0)
    writer.write(TENSORS, STAMP)
    entry = reader.newest()
    assert reader.newest(entry.seq) is None
    assert reader.wait(0, 10.0)
    assert not reader.wait(entry.seq, 0.001)


def test_state_of_the_writer_is_known(name: str) -> None:
    reader = LatentReader(name)
    assert reader.writer_state(0, S) is WriterState.ABSENT
    assert "No such file" in reader.problem
    writer = LatentWriter(name, 4096)
    now_ns = core.monotonic_ns()
    assert reader.writer_state(now_ns, S) is WriterState.ALIVE
    assert reader.problem == ""
    assert reader.writer_state(now_ns + 2 * S, S) is WriterState.SILENT
    writer.close()
    assert reader.writer_state(now_ns, S) is WriterState.GONE
    LatentWriter(name, 8192)
    assert reader.writer_state(now_ns, S) is WriterState.REPLACED


def test_reader_finds_a_ring_that_was_made_anew(name: str) -> None:
    first = LatentWriter(name, 4096)
    first.write(TENSORS, STAMP)
    reader = LatentReader(name)
    assert reader.newest().seq == 1
    assert not reader.reopen_if_abandoned()
    first.close()
    assert not reader.reopen_if_abandoned()  # still the same ring
    second = LatentWriter(name, 8192)
    assert reader.reopen_if_abandoned()
    assert reader.newest() is None
    second.write(TENSORS, STAMP)
    assert reader.newest().seq == 1


def test_other_schema_of_the_ring_is_a_problem_that_is_named(name: str) -> None:
    LatentWriter(name, 4096, schema_hash=7).write(TENSORS, STAMP)
    reader = LatentReader(name, schema_hash=8)
    assert reader.newest() is None
    assert "has schema 7, expected 8" in reader.problem


@pytest.fixture(scope="module")
def reader_program(ring_library: Path) -> Callable[..., list[str]]:
    """Build the C++ reader, plain and with sanitizers; return how to run it."""
    programs = {
        "plain": build_program(ring_library, "latent_read"),
        "checked": build_program(ring_library, "latent_read", "-fsanitize=address,undefined"),
    }

    def run(mode: str, ring: str, tensor: str, program: str = "plain") -> list[str]:
        command = [str(programs[program]), mode, ring, tensor]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
        return done.stdout.strip().split(" ")

    return run


def test_cpp_finds_the_same_tensors(name: str, reader_program: Callable[..., list[str]]) -> None:
    LatentWriter(name, 4096).write(TENSORS, STAMP)
    tokens = TENSORS["tokens"].tobytes().hex()
    assert reader_program("print", name, "tokens") == ["0", "(3,", "4)", tokens]
    assert reader_program("print", name, "mask") == ["6", "(3)", "010101"]
    with pytest.raises(AssertionError, match=r"^3"):
        reader_program("print", name, "missing")


def test_no_damaged_byte_leads_cpp_out_of_the_payload(
    name: str, reader_program: Callable[..., list[str]]
) -> None:
    LatentWriter(name, 4096).write(TENSORS, STAMP)
    assert int(reader_program("fuzz", name, "tokens", "checked")[0]) > 1000


def test_reading_in_a_control_loop_allocates_nothing(
    name: str, reader_program: Callable[..., list[str]]
) -> None:
    writer = LatentWriter(name, 1 << 20)
    writer.write({"a": np.zeros(3), "tokens": np.ones((100, 8))}, STAMP)
    good, total, allocations, before = reader_program("loop", name, "tokens")
    assert (good, float(total)) == ("1000", 800.0 * 1000)
    assert int(before) > 0, "the counter counts nothing"
    assert allocations == "0"
