# SPDX-License-Identifier: Apache-2.0
"""Every place in a model where weights of another file can be named is looked at."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_samples import endless_model, fast_model, slow_model, tensor

from vla_ros.errors import ConfigError
from vla_ros.policies.onnx.model_scan import scan_model


def external(location: str, name: str = "w") -> onnx.TensorProto:
    value = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1, 2])
    value.data_location = TensorProto.EXTERNAL
    for key, text in (("offset", "0"), ("location", location), ("length", "8")):
        entry = value.external_data.add()
        entry.key, entry.value = key, text
    return value


def graph_of(*nodes, constants=(), sparse=()) -> onnx.GraphProto:
    made = helper.make_graph(list(nodes), "g", [], [tensor("y", TensorProto.FLOAT, [1, 2])])
    made.initializer.extend(constants)
    made.sparse_initializer.extend(sparse)
    return made


def in_initializer(value):
    return helper.make_model(graph_of(constants=[value]))


def in_attribute(value):
    return helper.make_model(graph_of(helper.make_node("Constant", [], ["y"], value=value)))


def in_list_of_tensors(value):
    node = helper.make_node("Custom", [], ["y"])
    node.attribute.append(helper.make_attribute("many", [value, value]))
    return helper.make_model(graph_of(node))


def in_subgraph(value):
    inner = graph_of(constants=[value])
    for _ in range(3):
        inner = graph_of(helper.make_node("If", ["c"], ["y"], then_branch=inner))
    return helper.make_model(inner)


def in_list_of_graphs(value):
    node = helper.make_node("Custom", [], ["y"])
    node.attribute.append(helper.make_attribute("many", [graph_of(constants=[value])]))
    return helper.make_model(graph_of(node))


def in_sparse_initializer(value):
    indices = external("indices.bin", "i")
    return helper.make_model(
        graph_of(sparse=[onnx.SparseTensorProto(values=value, indices=indices, dims=[4])])
    )


def in_function(value):
    made = helper.make_model(graph_of())
    function = made.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["y"], value=value))
    return made


def in_default_of_a_function(value):
    made = helper.make_model(graph_of())
    function = made.functions.add(name="f", domain="d")
    function.attribute_proto.append(helper.make_attribute("a", value))
    return made


def in_training_graph(value):
    made = helper.make_model(graph_of())
    made.training_info.add().algorithm.CopyFrom(graph_of(constants=[value]))
    return made


PLACES = [
    in_initializer,
    in_attribute,
    in_list_of_tensors,
    in_subgraph,
    in_list_of_graphs,
    in_sparse_initializer,
    in_function,
    in_default_of_a_function,
    in_training_graph,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_location_is_found_wherever_it_stands(place):
    found = scan_model(place(external("../secret.bin")).SerializeToString(), "m.onnx")
    assert "../secret.bin" in found.locations


def test_location_is_found_although_the_tensor_denies_it():
    value = external("hidden.bin")
    value.data_location = TensorProto.DEFAULT
    found = scan_model(in_initializer(value).SerializeToString(), "m.onnx")
    assert found.locations == {"hidden.bin"}


@pytest.mark.parametrize("make", [slow_model, fast_model, endless_model])
def test_model_with_its_weights_inside_names_no_file(make):
    found = scan_model(make().SerializeToString(), "m.onnx")
    assert found.locations == frozenset()


def test_operators_of_subgraphs_are_found_too():
    found = scan_model(endless_model().SerializeToString(), "m.onnx")
    assert {"Loop", "Identity", "MatMul"} <= found.operators


def test_bytes_cut_off_inside_the_graph_are_refused():
    data = slow_model().SerializeToString()
    # The graph is followed by the version of the operators, 4 bytes.
    for end in range(20, len(data) - 5, 7):
        with pytest.raises(ConfigError, match=r"m\.onnx is no ONNX model, or is cut off"):
            scan_model(data[:end], "m.onnx")


@pytest.mark.parametrize("data", [b"", b"\x08\x08", b"not a model", b"\xff" * 40])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(ConfigError, match="is no ONNX model"):
        scan_model(data, "m.onnx")


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_nesting_has_an_end():
    graph = b""
    for _ in range(60):
        graph = field(1, field(5, field(6, graph)))  # node, attribute, graph
    with pytest.raises(ConfigError, match="nested more than 100 deep"):
        scan_model(field(7, graph), "m.onnx")


def test_no_bytes_whatever_raise_anything_else():
    rng = np.random.default_rng(1)
    good = bytearray(in_subgraph(external("x.bin")).SerializeToString())
    for _ in range(2000):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(0, 256)
        with contextlib.suppress(ConfigError):
            scan_model(bytes(data), "m.onnx")
