# SPDX-License-Identifier: Apache-2.0
"""The smallest exported policy: two graphs and a manifest, then rows from it.

    python examples/01_exported_policy.py my_policy
    vla-ros policy check my_policy

Slow half: how bright the image is. Fast half: the brighter, the faster the hand rises. A real
policy is exported from its framework in place of ``slow_graph`` and ``fast_graph``; all else stays
as it is (docs/policies.md).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.write import write_manifest
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.rehearsal import NOW_NS, made_up_latent, made_up_observation
from vla_ros.policies.onnx.slow import OnnxSlowPolicy
from vla_ros.types import ActionChunk

H, A = 16, 10  # rows; columns: position (3), rotation (6), gripper width (1)
RISE_M = 0.005  # from row to row, in full light
IMAGE = ("image", TensorProto.UINT8, [1, 1, 64, 64, 3])
LATENT = ("latent", TensorProto.FLOAT, [1, 1, 1])
ACTIONS = ("actions", TensorProto.FLOAT, [1, H, A])

MANIFEST: dict[str, Any] = {
    "name": "rise-with-the-light",
    "kind": "split",
    "max_age_s": 1.0,
    "normalisation_sha256": "0" * 64,  # of the statistics inside the graphs; here there are none
    "graphs": {
        "slow": {
            "file": "slow.onnx",
            "inputs": {
                "image": {
                    "role": "images",
                    "dtype": "uint8",
                    "shape": [1, 1, 64, 64, 3],
                    "cameras": ["scene_camera"],
                }
            },
            "outputs": {"latent": {"role": "latent", "dtype": "float32", "shape": [1, 1, 1]}},
        },
        "fast": {
            "file": "fast.onnx",
            "inputs": {"latent": {"role": "latent", "dtype": "float32", "shape": [1, 1, 1]}},
            "outputs": {"actions": {"role": "actions", "dtype": "float32", "shape": [1, H, A]}},
        },
    },
    "actions": {"rows": H, "dt_s": 1 / 30, "position": "relative_base", "rotation": "absolute"},
}


def slow_graph() -> onnx.ModelProto:
    """Latent = mean of the image, 0 (black) to 1 (white)."""
    return _model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["grey"], axes=[3, 4], keepdims=0),
            helper.make_node("ReduceMean", ["grey"], ["mean"], axes=[2], keepdims=1),
            helper.make_node("Div", ["mean", "white"], ["latent"]),
        ],
        IMAGE,
        LATENT,
        {"white": np.array(255.0)},
    )


def fast_graph() -> onnx.ModelProto:
    """Actions = rows that stay + latent * rows that rise."""
    stay, rise = np.zeros((1, H, A)), np.zeros((1, H, A))
    stay[..., 3:9] = [1, 0, 0, 0, -1, 0]  # first two columns of the rotation: hand down
    stay[..., 9] = 0.08
    rise[..., 2] = RISE_M * np.arange(H)
    return _model(
        [
            helper.make_node("Mul", ["latent", "rise"], ["up"]),
            helper.make_node("Add", ["up", "stay"], ["actions"]),
        ],
        LATENT,
        ACTIONS,
        {"stay": stay, "rise": rise},
    )


def _model(nodes: list[Any], given: Any, made: Any, values: dict[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info(*made)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def export(folder: Path) -> None:
    """Write graphs and manifest; the hashes are filled in."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(slow_graph(), folder / "slow.onnx")
    onnx.save(fast_graph(), folder / "fast.onnx")
    write_manifest(folder, MANIFEST)


def rows_of(folder: Path) -> ActionChunk:
    """Load the policy and ask it once, on noise for an image."""
    policy = open_policy(folder)
    slow, fast = OnnxSlowPolicy(policy), OnnxFastPolicy(policy)
    seen = made_up_observation(policy.manifest, "rise", np.random.default_rng(0))
    return fast.decode(made_up_latent(slow.encode(seen)), seen, NOW_NS)


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "my_policy")
    export(where)
    heights_m = rows_of(where).positions[:, 2]
    print(f"{where}: {H} rows, height {heights_m[0]:.3f} to {heights_m[-1]:.3f} m")
