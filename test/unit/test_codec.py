# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_ros.errors import ShapeError
from vla_ros.latency.codec import decode_tensors, encode_into, encode_tensors, encoded_bytes

DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
DTYPES += ("int8", "int16", "uint16", "uint32", "uint64")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
SAMPLE = {
    "pick_position": np.array([0.4, -0.1, 0.02]),
    "pick_seen_ns": np.array([123456789012345], dtype=np.int64),
    "tick_code": np.arange(8 * 224 * 3, dtype=np.uint8).reshape(8, 224, 3),
}


@given(st.dictionaries(st.text(max_size=40), ARRAYS, max_size=6))
def test_round_trip_keeps_every_bit(tensors: dict[str, np.ndarray]) -> None:
    decoded = decode_tensors(encode_tensors(tensors))
    assert list(decoded) == list(tensors)
    for name, value in tensors.items():
        assert decoded[name].dtype == value.dtype
        assert decoded[name].shape == value.shape
        assert decoded[name].tobytes() == np.ascontiguousarray(value).tobytes()


def test_array_that_is_not_contiguous_arrives_in_order() -> None:
    value = np.arange(12.0).reshape(3, 4).T
    np.testing.assert_array_equal(decode_tensors(encode_tensors({"x": value}))["x"], value)


def test_longer_payload_is_allowed_as_slots_have_one_size() -> None:
    decoded = decode_tensors(encode_tensors(SAMPLE) + bytes(100))
    np.testing.assert_array_equal(decoded["tick_code"], SAMPLE["tick_code"])


def test_decoded_tensors_are_read_only() -> None:
    assert not decode_tensors(encode_tensors(SAMPLE))["pick_position"].flags.writeable


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([object()]), np.array([1j]), np.zeros((1,) * 9)]
)
def test_tensor_that_is_not_plain_numbers_is_refused_by_name(value: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="strange"):
        encode_tensors({"strange": value})


def test_too_many_tensors_are_refused() -> None:
    with pytest.raises(ShapeError, match="at most 64 tensors, got 65"):
        encode_tensors({f"t{i}": np.zeros(1) for i in range(65)})


def test_every_cut_is_refused() -> None:
    data = encode_tensors(SAMPLE)
    for length in [*range(0, 200), len(data) // 2, len(data) - 1]:
        with pytest.raises(ShapeError):
            decode_tensors(data[:length])


@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused_or_decoded_but_never_crash(data: bytes) -> None:
    with suppress(ShapeError):
        decode_tensors(data)


@given(st.data())
def test_flipped_header_bytes_never_crash(data: st.DataObject) -> None:
    encoded = bytearray(encode_tensors(SAMPLE))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, 90))] = data.draw(st.integers(0, 255))
    with suppress(ShapeError):
        decode_tensors(bytes(encoded))


def test_big_endian_array_keeps_its_values() -> None:
    value = np.arange(5, dtype=">i4")
    decoded = decode_tensors(encode_tensors({"x": value}))["x"]
    np.testing.assert_array_equal(decoded, value)
    assert decoded.dtype == np.dtype("<i4")


def test_values_lie_at_multiples_of_64_bytes_and_are_not_copied() -> None:
    room = np.zeros(encoded_bytes(SAMPLE) + 128, dtype=np.uint8)
    start = -room.ctypes.data % 64
    buffer = room[start : start + encoded_bytes(SAMPLE)]
    assert encode_into(SAMPLE, buffer) == len(buffer)
    for value in decode_tensors(buffer).values():
        assert value.ctypes.data % 64 == 0
        assert buffer.ctypes.data <= value.ctypes.data < buffer.ctypes.data + len(buffer)


def test_too_little_room_is_refused_with_both_sizes() -> None:
    with pytest.raises(ShapeError, match=r"need \d+ bytes, there is room for 100"):
        encode_into(SAMPLE, bytearray(100))


def test_two_tensors_of_one_name_are_refused() -> None:
    data = encode_tensors({"ab": np.zeros(1), "ac": np.zeros(1)}).replace(b"ac", b"ab")
    with pytest.raises(ShapeError, match="two tensors are named 'ab'"):
        decode_tensors(data)
