# SPDX-License-Identifier: Apache-2.0
"""Named tensors as bytes, for rings and messages. No pickle: names, types and shapes are explicit.

Layout, little endian: u32 magic, u32 count; per tensor u16 name length, name, u8 type code,
u8 dimensions, u32 per dimension, then padding to 8 bytes and the values in C order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError

_MAGIC = 0x54434C56  # "VLCT"
_TYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
_MAX_TENSORS = 64
_MAX_DIMENSIONS = 8

Tensors = Mapping[str, NDArray[np.generic]]


def encode_tensors(tensors: Tensors) -> bytes:
    """Return the tensors as bytes.

    Raises:
        ShapeError: naming the tensor whose type or number of dimensions is not supported.
    """
    if len(tensors) > _MAX_TENSORS:
        raise ShapeError(f"at most {_MAX_TENSORS} tensors, got {len(tensors)}")
    out = bytearray(struct.pack("<II", _MAGIC, len(tensors)))
    for name, value in tensors.items():
        if value.dtype.name not in _TYPES:
            raise ShapeError(
                f"tensor {name!r} has type {value.dtype}, allowed: {', '.join(_TYPES)}"
            )
        if value.ndim > _MAX_DIMENSIONS:
            raise ShapeError(
                f"tensor {name!r} has {value.ndim} dimensions, at most {_MAX_DIMENSIONS}"
            )
        encoded = name.encode()
        out += struct.pack("<H", len(encoded)) + encoded
        out += struct.pack("<BB", _TYPES.index(value.dtype.name), value.ndim)
        out += struct.pack(f"<{value.ndim}I", *value.shape)
        out += bytes(-len(out) % 8)
        out += np.ascontiguousarray(value).tobytes()
    return bytes(out)


def decode_tensors(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Read what ``encode_tensors`` wrote; the arrays look into ``data`` and are read-only.

    Raises:
        ShapeError: if the bytes are not tensors or are cut off.
    """
    try:
        return _decode(data)
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise ShapeError(f"not a set of tensors: {error}") from error


def _decode(data: bytes) -> dict[str, NDArray[np.generic]]:
    magic, count = struct.unpack_from("<II", data)
    if magic != _MAGIC or count > _MAX_TENSORS:
        raise ShapeError(f"not a set of tensors: magic {magic:#x}, count {count}")
    tensors: dict[str, NDArray[np.generic]] = {}
    at = 8
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        code, ndim = struct.unpack_from("<BB", data, at)
        shape = struct.unpack_from(f"<{ndim}I", data, at + 2)
        at += 2 + 4 * ndim
        at += -at % 8
        dtype = np.dtype(_TYPES[code])
        size = int(np.prod(shape, dtype=np.int64))
        tensors[name] = np.frombuffer(data, dtype, size, at).reshape(shape)
        at += size * dtype.itemsize
    return tensors
