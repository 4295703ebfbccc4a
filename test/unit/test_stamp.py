# SPDX-License-Identifier: Apache-2.0
import dataclasses
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from stamp_samples import EXTREMES, FIELDS, extremes

import vla_ros_core as core
from vla_ros.errors import ShapeError
from vla_ros.latency.stamp import (
    STAMP_BYTES,
    STAMP_DTYPE,
    LatencyStamp,
    StampFlags,
    StampKind,
)

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


@pytest.mark.parametrize(("name", "value"), EXTREMES)
def test_extreme_values_survive_bytes_and_cpp_both_ways(name, value):
    stamp = LatencyStamp(**({"kind": StampKind.LATENT} | {name: value}))
    record = stamp.to_bytes()
    assert LatencyStamp.from_bytes(record) == stamp
    in_cpp = core.stamp_fields(record)
    assert {n: in_cpp[n] for n in FIELDS} == {n: getattr(stamp, n) for n in FIELDS}
    assert core.make_stamp(in_cpp) == record


@pytest.mark.parametrize("name", FIELDS)
def test_field_lies_where_the_table_says(name):
    """Changing one field changes its bytes, the checksum and nothing else."""
    offset, size = STAMP_DTYPE.fields[name][1], STAMP_DTYPE[name].itemsize
    plain = LatencyStamp(kind=StampKind.OBSERVATION, confidence=0.0)
    changed = plain.replace(**{name: extremes(name)[1]})
    one, two = (np.frombuffer(s.to_bytes(), np.uint8) for s in (plain, changed))
    where = np.flatnonzero(one[:252] != two[:252])
    assert len(where) > 0
    assert offset <= where.min()
    assert where.max() < offset + size


def test_every_field_of_the_record_is_a_field_of_the_class():
    assert {f.name for f in dataclasses.fields(LatencyStamp)} == set(FIELDS)


def test_cpp_struct_has_the_layout_of_the_table():
    expected = {n: (STAMP_DTYPE.fields[n][1], STAMP_DTYPE[n].itemsize) for n in STAMP_DTYPE.names}
    assert core.stamp_layout() == expected


def test_checksum_is_that_of_zlib_in_cpp_too():
    record = core.make_stamp({"seq": 2**63, "confidence": 0.25})
    assert int.from_bytes(record[252:], "little") == zlib.crc32(record[:252])


@pytest.mark.parametrize("position", range(256))
def test_every_flipped_byte_is_noticed_by_python_and_by_cpp(position):
    data = bytearray(full_stamp().to_bytes())
    data[position] ^= 0x10
    with pytest.raises(ShapeError):
        LatencyStamp.from_bytes(bytes(data))
    name = "vla_ros.test_stamp"
    ring = core.ShmRing.create(name, 2, 8, 0)
    core.ShmRing.unlink(name)
    with pytest.raises(core.Error, match=r"magic|version|checksum"):
        ring.write(bytes(data), b"x")


def resealed(**changes: object) -> bytes:
    """A record that is whole but says what no LatencyStamp of ours says."""
    record = np.frombuffer(bytearray(full_stamp().to_bytes()), dtype=STAMP_DTYPE)
    for name, value in changes.items():
        record[name] = value
    body = record.tobytes()[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": 9}, "StampKind"),
        ({"clock_domain": 7}, "ClockDomain"),
        ({"confidence": np.nan}, "confidence is nan"),
        ({"confidence": np.inf}, "confidence is inf"),
        ({"version": 1}, "version 1, this code reads 2"),
        ({"magic": 1}, "magic 0x1"),
    ],
)
def test_whole_record_of_somebody_else_is_refused_with_the_reason(changes, match):
    with pytest.raises(ShapeError, match=match):
        LatencyStamp.from_bytes(resealed(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [("seq", -1), ("seq", 2**64), ("epoch", 2**32), ("state_ns", 2**63), ("horizon", 65536)],
)
def test_value_that_does_not_fit_is_refused_by_name(name, value):
    with pytest.raises(ShapeError, match=f"{name} = {value} does not fit"):
        LatencyStamp(**{"kind": StampKind.LATENT, name: value}).to_bytes()


def test_clock_id_of_another_length_is_refused():
    with pytest.raises(ShapeError, match="clock_id has 16 bytes, got 5"):
        LatencyStamp(kind=StampKind.LATENT, clock_id=b"short")
