# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file refers to, read from its bytes before any library acts on them.

Weights may lie in other files, which a graph names as it likes. Only the protobuf wire format is
walked here: no message is built, no file opened, no value copied, and it needs no ONNX package.
Every place where a tensor may stand is looked at: initializers (sparse ones too), attributes of
nodes, subgraphs, functions, training graphs.

Source: onnx.proto3 of ONNX 1.21 and its docs/Security.md; protobuf encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vla_ros.errors import ConfigError

_MAX_DEPTH = 100  # protobuf's own limit
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5

# Field numbers that lead to tensors and operators, per message.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION = "model", "graph", "node", "attribute", "function"
_TRAINING, _SPARSE, _TENSOR, _ENTRY = "training", "sparse tensor", "tensor", "external data"
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
_NODE_OP_TYPE = 4
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


@dataclass(frozen=True)
class ModelReferences:
    """What a model refers to.

    Attributes:
        locations: of external data, as they are written.
        operators: types of all nodes.
    """

    locations: frozenset[str]
    operators: frozenset[str]


def scan_model(data: bytes, origin: str) -> ModelReferences:
    """Return the files and operators that a model refers to.

    Raises:
        ConfigError: if the bytes are no ONNX model, or are cut off; names ``origin``.
    """
    locations: set[str] = set()
    operators: set[str] = set()
    has_graph = False
    pending = [(_MODEL, memoryview(data), 0)]
    try:
        while pending:
            kind, message, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise ValueError(f"nested more than {_MAX_DEPTH} deep")
            if kind == _ENTRY:
                locations |= _location(message)
                continue
            children = _CHILDREN[kind]
            for number, value in _fields(message):
                if number in children:
                    pending.append((children[number], value, depth + 1))
                    has_graph |= children[number] == _GRAPH
                elif kind == _NODE and number == _NODE_OP_TYPE:
                    operators.add(_text(value))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{origin} is no ONNX model, or is cut off: {error}") from error
    if not has_graph:
        raise ConfigError(f"{origin} is no ONNX model: it has no graph")
    return ModelReferences(frozenset(locations), frozenset(operators))


def _location(entry: memoryview) -> set[str]:
    """Return the value of an entry whose key may be ``location``; of a doubled field, each."""
    fields = list(_fields(entry))
    keys = {_text(value) for number, value in fields if number == _ENTRY_KEY}
    values = {_text(value) for number, value in fields if number == _ENTRY_VALUE}
    return values if "location" in keys else set()


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the fields that have a length; skip the others."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire == _LEN:
            length, at = _varint(message, at)
            if at + length > end:
                raise ValueError(f"a field of {length} bytes, {end - at} are left")
            yield number, message[at : at + length]
            at += length
        elif wire in (_I64, _I32):
            at += 8 if wire == _I64 else 4
            if at > end:
                raise ValueError("ends inside a number")
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _text(value: memoryview) -> str:
    return bytes(value).decode()
