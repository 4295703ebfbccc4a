# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import numpy as np
import pytest

from vla_ros.errors import ShapeError
from vla_ros.latency.stamp import STAMP_BYTES, STAMP_DTYPE, LatencyStamp, StampFlags, StampKind

ROOT = Path(__file__).parents[2]


def full_stamp() -> LatencyStamp:
    return LatencyStamp(
        kind=StampKind.LATENT,
        flags=StampFlags.WARMUP | StampFlags.CACHED,
        clock_id=bytes(range(16)),
        seq=7,
        anchor_seq=123456789,
        episode_id=3,
        instruction_hash=2**64 - 1,
        capture_oldest_ns=10**15,
        publish_ns=10**15 + 5 * 10**8,
        hard_expire_ns=10**15 + 2 * 10**9,
        clock_err_ns=-5,
        confidence=0.5,
    )


def test_round_trip_keeps_every_field():
    stamp = full_stamp()
    assert len(stamp.to_bytes()) == STAMP_BYTES
    assert LatencyStamp.from_bytes(stamp.to_bytes()) == stamp


@pytest.mark.parametrize("position", [0, 5, 100, 200, 255])
def test_any_flipped_byte_is_noticed(position):
    data = bytearray(full_stamp().to_bytes())
    data[position] ^= 0x5A
    with pytest.raises(ShapeError):
        LatencyStamp.from_bytes(bytes(data))


def test_wrong_length_is_refused_with_both_lengths():
    with pytest.raises(ShapeError, match=r"256.*255"):
        LatencyStamp.from_bytes(bytes(255))


def test_age_and_latency_are_differences():
    stamp = full_stamp()
    assert stamp.latency_ns() == 5 * 10**8
    assert stamp.age_ns(10**15 + 42) == 42


def test_layout_is_the_table_in_the_docs():
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| `(\w+)` \|", (ROOT / "docs/latency-stamp.md").read_text(), re.M
    )
    documented = {name: (int(offset), int(size)) for offset, size, name in rows}
    actual = {
        name: (STAMP_DTYPE.fields[name][1], STAMP_DTYPE.fields[name][0].itemsize)
        for name in STAMP_DTYPE.names
    }
    assert documented == actual


def test_ros_message_has_the_same_fields():
    text = (ROOT / "vla_ros_msgs/msg/LatencyStamp.msg").read_text()
    in_message = re.findall(r"^(\w+)(\[16\])? (\w+)\s*(?:#.*)?$", text, re.M)
    types = {name: (kind + array) for kind, array, name in in_message}
    own = set(STAMP_DTYPE.names) - {"magic", "version", "reserved", "crc32"}
    assert set(types) == own
    numpy_names = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}
    numpy_names |= {"int64": "<i8", "float32": "<f4", "uint8[16]": "V16"}
    for name, kind in types.items():
        assert STAMP_DTYPE[name] == np.dtype(numpy_names[kind]), name


def test_cpp_struct_declares_the_same_fields_in_the_same_order():
    text = (ROOT / "controllers/core/include/vla_ros_core/records.hpp").read_text()
    struct = re.search(r"struct LatencyStamp\s*\{(.*?)\};", text, re.DOTALL)
    assert struct is not None
    names = re.findall(r"(\w+)(?:\[\d+\])?;", struct[1])
    assert tuple(names) == STAMP_DTYPE.names
