# SPDX-License-Identifier: Apache-2.0
"""Payloads of any size and alignment arrive as they were, whichever way they were copied in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import vla_ros_core as core
from vla_ros.latency.codec import decode_tensors, encode_into, encode_tensors
from vla_ros.latency.stamp import LatencyStamp, StampKind

ROOM = 20_000
STAMP = LatencyStamp(kind=StampKind.LATENT).to_bytes()


@pytest.fixture
def ring() -> Iterator[core.ShmRing]:
    name = f"vla_ros.fill{os.getpid()}"
    made = core.ShmRing.create(name, 2, ROOM)
    yield made
    made.close()
    core.ShmRing.unlink(name)


def random_bytes(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 256, n, dtype=np.uint8)


def test_fill_writes_its_bytes_and_no_others(ring: core.ShmRing) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        before = random_bytes(rng, ROOM)
        ring.begin_write()[:] = before
        # Around the size from which on streaming stores are used, at odd places.
        values = random_bytes(rng, int(rng.choice([0, 1, 63, 4095, 4096, 4097, 9999])))
        offset = int(rng.integers(0, ROOM - len(values) + 1))
        ring.fill(offset, values)
        ring.commit(STAMP, ROOM)
        expected = before.copy()
        expected[offset : offset + len(values)] = values
        np.testing.assert_array_equal(np.frombuffer(ring.read_latest()[2], np.uint8), expected)


def test_write_takes_sources_of_any_alignment(ring: core.ShmRing) -> None:
    source = random_bytes(np.random.default_rng(2), ROOM + 64)
    for shift in range(64):
        part = source[shift : shift + ROOM - shift]
        ring.write(STAMP, part)
        np.testing.assert_array_equal(np.frombuffer(ring.read_latest()[2], np.uint8), part)


@pytest.mark.parametrize(("offset", "n"), [(ROOM, 1), (ROOM - 4096, 4097), (2**63, 1)])
def test_fill_beyond_the_slot_is_refused(ring: core.ShmRing, offset: int, n: int) -> None:
    with pytest.raises(core.Error, match="do not fit"):
        ring.fill(offset, np.zeros(n, np.uint8))


def test_readers_cannot_fill(ring: core.ShmRing) -> None:
    with pytest.raises(core.Error, match="not opened for writing"):
        core.ShmRing.open(ring.name).fill(0, np.zeros(1, np.uint8))


def test_tensors_are_the_same_however_they_are_copied(ring: core.ShmRing) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "large": rng.normal(size=(40, 50)).astype(np.float32),
        "turned": rng.normal(size=(30, 20)).T,
        "big_endian": np.arange(5, dtype=">i4"),
        "flags": np.array([True, False]),
        "half": np.float16([1.5]),
        "scalar": np.array(3.0),
        "empty": np.empty((0, 4)),
    }
    length = encode_into(tensors, ring.begin_write(), ring.fill)
    ring.commit(STAMP, length)
    payload = ring.read_latest()[2]
    for name, value in decode_tensors(payload).items():
        np.testing.assert_array_equal(value, tensors[name])
    plain = decode_tensors(encode_tensors(tensors))
    assert {n: v.tobytes() for n, v in plain.items()} == {
        n: v.tobytes() for n, v in decode_tensors(payload).items()
    }
