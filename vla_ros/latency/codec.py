# SPDX-License-Identifier: Apache-2.0
"""Named tensors as bytes, for rings and messages. No pickle: names, types and shapes are explicit.

The byte table is in ``docs/latent-buffer.md``; C++ reads the same with ``latent_view.hpp``. Values
lie at multiples of 64 bytes, so that in a ring slot they can be used where they are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError

ALIGNMENT = 64
_MAGIC = 0x32434C56  # "VLC2"
# The position in this list is the type code: append only.
_TYPES: tuple[str, ...] = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
_TYPES += ("int8", "int16", "uint16", "uint32", "uint64")
_MAX_TENSORS = 64
_MAX_DIMENSIONS = 8
_MAX_NAME_BYTES = 1024
_HEAD = struct.Struct("<IIQ")  # magic, tensors, bytes in all
_ENTRY = struct.Struct("<HBBIQ")  # bytes of the name, type, dimensions, zero, offset of the values

Tensors = Mapping[str, NDArray[np.generic]]
Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]
Fill = Callable[[int, NDArray[np.uint8]], None]


def encoded_bytes(tensors: Tensors) -> int:
    """Return how long ``encode_into`` will make these tensors [bytes].

    Raises:
        ShapeError: naming the tensor whose type or number of dimensions is not supported.
    """
    return _plan(tensors)[1]


def encode_into(tensors: Tensors, buffer: Any, fill: Fill | None = None) -> int:
    """Write the tensors into a writable buffer, each value copied once; return the length [bytes].

    Args:
        tensors: by name.
        buffer: (n,) uint8; what lies beyond the length is left as it is.
        fill: ``fill(offset, values)`` copies (m,) uint8 into the buffer; None: NumPy does.

    Raises:
        ShapeError: if they do not fit, or naming the tensor that is not supported.
    """
    offsets, total = _plan(tensors)
    out = memoryview(buffer).cast("B")
    if total > len(out):
        raise ShapeError(f"the tensors need {total} bytes, there is room for {len(out)}")
    _HEAD.pack_into(out, 0, _MAGIC, len(tensors), total)
    at = _HEAD.size
    for (name, value), offset in zip(tensors.items(), offsets, strict=True):
        at = _write_entry(out, at, name, value, offset)
        dtype = value.dtype.newbyteorder("<")
        if fill is not None and value.flags.c_contiguous and value.dtype == dtype:
            fill(offset, value.reshape(-1).view(np.uint8))
            continue
        room = np.frombuffer(out, dtype, value.size, offset) if value.size else np.empty(0, dtype)
        room.reshape(value.shape)[...] = value
    return total


def encode_tensors(tensors: Tensors) -> bytes:
    """Return the tensors as bytes.

    Raises:
        ShapeError: naming the tensor whose type or number of dimensions is not supported.
    """
    out = bytearray(encoded_bytes(tensors))
    encode_into(tensors, out)
    return bytes(out)


def decode_tensors(data: Buffer) -> dict[str, NDArray[np.generic]]:
    """Read what ``encode_tensors`` wrote; the arrays look into ``data`` and are read-only.

    Raises:
        ShapeError: if the bytes are not tensors or are cut off.
    """
    try:
        return _decode(_bytes_of(data))
    except (struct.error, UnicodeDecodeError, IndexError, TypeError, ValueError) as error:
        raise ShapeError(f"not a set of tensors: {error}") from error


def _bytes_of(data: Any) -> memoryview:
    return memoryview(data).cast("B").toreadonly()


def _plan(tensors: Tensors) -> tuple[list[int], int]:
    """Return where the values of each tensor go, and the length of all."""
    if len(tensors) > _MAX_TENSORS:
        raise ShapeError(f"at most {_MAX_TENSORS} tensors, got {len(tensors)}")
    at = _HEAD.size
    for name, value in tensors.items():
        _check(name, value)
        at += _ENTRY.size + 4 * value.ndim + len(name.encode())
        at += -at % 8
    offsets = []
    for value in tensors.values():
        at += -at % ALIGNMENT
        offsets.append(at)
        at += value.nbytes
    return offsets, at


def _check(name: str, value: NDArray[np.generic]) -> None:
    if value.dtype.name not in _TYPES:
        raise ShapeError(f"tensor {name!r} has type {value.dtype}, allowed: {', '.join(_TYPES)}")
    if value.ndim > _MAX_DIMENSIONS:
        raise ShapeError(f"tensor {name!r} has {value.ndim} dimensions, at most {_MAX_DIMENSIONS}")
    if max(value.shape, default=0) >= 2**32:
        raise ShapeError(f"tensor {name!r} has shape {value.shape}, at most 2^32 - 1 each")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise ShapeError(f"a tensor's name has at most {_MAX_NAME_BYTES} bytes, got {name[:40]!r}")


def _write_entry(
    out: memoryview, at: int, name: str, value: NDArray[np.generic], offset: int
) -> int:
    encoded = name.encode()
    code = _TYPES.index(value.dtype.name)
    _ENTRY.pack_into(out, at, len(encoded), code, value.ndim, 0, offset)
    at += _ENTRY.size
    struct.pack_into(f"<{value.ndim}I", out, at, *value.shape)
    at += 4 * value.ndim
    end = at + len(encoded) + -(at + len(encoded)) % 8
    out[at:end] = encoded.ljust(end - at, b"\0")
    return end


def _decode(data: memoryview) -> dict[str, NDArray[np.generic]]:
    magic, count, total = _HEAD.unpack_from(data)
    if magic != _MAGIC or count > _MAX_TENSORS or total > len(data):
        raise ShapeError(
            f"not a set of tensors: magic {magic:#x}, count {count}, {total} of {len(data)} bytes"
        )
    tensors: dict[str, NDArray[np.generic]] = {}
    at = _HEAD.size
    for _ in range(count):
        name_bytes, code, ndim, _zero, offset = _ENTRY.unpack_from(data, at)
        if ndim > _MAX_DIMENSIONS or name_bytes > _MAX_NAME_BYTES:
            raise ShapeError(f"a tensor of {ndim} dimensions, name of {name_bytes} bytes")
        at += _ENTRY.size
        shape = struct.unpack_from(f"<{ndim}I", data, at)
        at += 4 * ndim
        name = bytes(data[at : at + name_bytes]).decode()
        at += name_bytes
        at += -at % 8
        dtype = np.dtype(_TYPES[code]).newbyteorder("<")
        size = math.prod(shape)
        if offset % ALIGNMENT or offset < at or offset + size * dtype.itemsize > total:
            raise ShapeError(f"values of {name!r} at {offset} do not lie in {total} bytes")
        if name in tensors:
            raise ShapeError(f"two tensors are named {name!r}")
        tensors[name] = _array(data, dtype, size, offset).reshape(shape)
    return tensors


def _array(data: memoryview, dtype: Any, size: int, offset: int) -> NDArray[np.generic]:
    if size == 0:  # may lie at the very end, where frombuffer sees nothing to look at
        empty = np.empty(0, dtype)
        empty.setflags(write=False)
        return empty
    return np.frombuffer(data, dtype, size, offset)
