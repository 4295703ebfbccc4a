# SPDX-License-Identifier: Apache-2.0
"""The ONNX graphs of ``large_policy``, node by node; onnx is imported where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.large_sizes import (
    AGE,
    CAMERAS,
    CENTRE,
    COLUMNS,
    PATCH_PX,
    ROWS,
    SCALE,
    STATE,
    WORDS,
    LargePolicy,
    Transformer,
)

_OPSET, _IR = 17, 8


class LargeGraph:
    """Builds a graph node by node; every call returns the name of its output."""

    def __init__(self, half: str, offsets: dict[str, tuple[int, tuple[int, ...]]]) -> None:
        from onnx import helper

        self._helper, self._half, self._offsets = helper, half, offsets
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def slow(self, size: LargePolicy) -> None:
        """Images and words to latent."""
        px, n = PATCH_PX, size.side_px // PATCH_PX
        self._input("image", "UINT8", [1, len(CAMERAS), size.side_px, size.side_px, 3])
        self._input("tokens", "INT64", [1, WORDS])
        x = self._add("Cast", "image", to=self._type("FLOAT16"))
        x = self._add("Div", x, self._number(127.5))
        x = self._add("Sub", x, self._number(1.0))
        x = self._reshape(x, [len(CAMERAS), n, px, n, px, 3])
        x = self._add("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
        seen = self._matmul(self._reshape(x, [1, size.patches, 3 * px**2]), "patch")
        said = self._add("Gather", self._weight("words"), "tokens", axis=0)
        x = self._add("Concat", seen, said, axis=1)
        x = self._layers(self._add("Add", x, self._weight("place")), size.slow)
        self._output("latent", x, [1, size.latent_tokens, size.latent_dim])

    def fast(self, size: LargePolicy) -> None:
        """Latent, age, state and noise to rows."""
        self._input("latent", "FLOAT", [1, size.latent_tokens, size.latent_dim])
        self._input("latent_age_s", "FLOAT", [1, AGE])
        self._input("state", "FLOAT", [1, STATE])
        self._input("noise", "FLOAT", [1, ROWS, COLUMNS])
        half = {
            name: self._add("Cast", name, to=self._type("FLOAT16"))
            for name in ("latent", "latent_age_s", "state", "noise")
        }
        known = self._add("Concat", half["state"], half["latent_age_s"], axis=1)
        known = self._reshape(self._matmul(known, "state"), [1, 1, size.fast.width])
        asked = self._add("Add", self._matmul(half["noise"], "noise"), self._weight("place"))
        asked = self._add("Add", asked, known)
        x = self._add("Concat", asked, self._matmul(half["latent"], "latent"), axis=1)
        x = self._layers(x, size.fast)
        ends = [self._whole(f"slice_{name}", [at]) for name, at in (("from", 0), ("to", ROWS))]
        x = self._add("Slice", x, *ends, self._whole("slice_axis", [1]))
        x = self._add("Tanh", self._add("Cast", x, to=self._type("FLOAT")))
        x = self._add("Mul", x, self._constant("scale", SCALE))
        x = self._add("Add", x, self._constant("centre", CENTRE))
        self._output("actions", x, [1, ROWS, COLUMNS], is_float=True)

    def model(self) -> bytes:
        """Return the graph; the weights stay in their file."""
        graph = self._helper.make_graph(
            self._nodes, self._half, self._inputs, self._outputs, list(self._constants.values())
        )
        opset = self._helper.make_opsetid("", _OPSET)
        made = self._helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
        return bytes(made.SerializeToString())

    def _layers(self, x: str, t: Transformer) -> str:
        for i in range(t.layers):
            y = self._norm(x, f"{i}/norm1", t)
            q, k, v = (self._split(self._matmul(y, f"{i}/{n}"), t) for n in ("q", "k", "v"))
            k = self._add("Transpose", k, perm=[0, 1, 3, 2])
            scale = self._number((t.width // t.heads) ** -0.5)
            # Scaled before the product, where 16 bits have more room.
            scores = self._add("MatMul", self._add("Mul", q, scale), k)
            found = self._add("MatMul", self._add("Softmax", scores, axis=-1), v)
            found = self._add("Transpose", found, perm=[0, 2, 1, 3])
            found = self._matmul(self._reshape(found, [1, -1, t.width]), f"{i}/o")
            x = self._add("Add", x, found)
            y = self._gelu(self._matmul(self._norm(x, f"{i}/norm2", t), f"{i}/up"))
            x = self._add("Add", x, self._matmul(y, f"{i}/down"))
        return self._matmul(self._norm(x, "norm", t), "out")

    def _gelu(self, x: str) -> str:
        y = self._add("Erf", self._add("Div", x, self._number(2.0**0.5)))
        y = self._add("Mul", x, self._add("Add", y, self._number(1.0)))
        return self._add("Mul", y, self._number(0.5))

    def _norm(self, x: str, name: str, t: Transformer) -> str:
        return self._add("LayerNormalization", x, self._weight(name), axis=-1, epsilon=1e-5)

    def _split(self, x: str, t: Transformer) -> str:
        x = self._reshape(x, [1, -1, t.heads, t.width // t.heads])
        return self._add("Transpose", x, perm=[0, 2, 1, 3])

    def _matmul(self, x: str, weight: str) -> str:
        return self._add("MatMul", x, self._weight(weight))

    def _reshape(self, x: str, shape: list[int]) -> str:
        name = "shape_" + "_".join(str(n) for n in shape)
        return self._add("Reshape", x, self._whole(name, shape))

    def _weight(self, name: str) -> str:
        """Return a matrix that lies in the file of weights."""
        if name not in self._constants:
            from onnx import TensorProto

            offset, shape = self._offsets[name]
            tensor = TensorProto(name=f"weights/{name}", data_type=TensorProto.FLOAT16, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": f"{self._half}.bin", "offset": offset}
            for key, value in (where | {"length": 2 * int(np.prod(shape))}).items():
                tensor.external_data.add(key=key, value=str(value))
            self._constants[name] = tensor
        return f"weights/{name}"

    def _number(self, value: float) -> str:
        return self._constant(f"number_{value:.6g}", np.array(value, np.float16))

    def _whole(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _type(self, name: str) -> int:
        from onnx import TensorProto

        return int(getattr(TensorProto, name))

    def _input(self, name: str, dtype: str, shape: list[int]) -> None:
        self._inputs.append(self._helper.make_tensor_value_info(name, self._type(dtype), shape))

    def _output(self, name: str, x: str, shape: list[int], *, is_float: bool = False) -> None:
        last = self._helper.make_node("Identity", [x], [name])
        if not is_float:
            last = self._helper.make_node("Cast", [x], [name], to=self._type("FLOAT"))
        self._nodes.append(last)
        self._outputs.append(self._helper.make_tensor_value_info(name, self._type("FLOAT"), shape))
