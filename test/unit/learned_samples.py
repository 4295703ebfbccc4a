# SPDX-License-Identifier: Apache-2.0
"""An export in the form of the learned policy, with graphs whose outputs can be worked out by hand.

Made without PyTorch: the manifest is the real one, the graphs are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from learning_samples import TINY
from onnx import TensorProto, helper
from onnx_samples import constant, model, tensor

from vla_ros.learning.manifest import ACTIONS, CAMERAS, VOCABULARY_FILE, write_manifest
from vla_ros.learning.state_vector import STATE_SIZE
from vla_ros.learning.views import SIDE_PX, WRIST_SHAPE
from vla_ros.learning.vocabulary import MAX_TOKENS, default_vocabulary
from vla_ros.policies.manifest.schema import Kind

H, A = ACTIONS.rows, ACTIONS.columns
LATENT = [1, TINY.tokens, TINY.token_dim]
SCENE, WRIST = CAMERAS
AGE_TO_Y, LIGHT_TO_Z = 0.01, 0.1

# Rows that go 1 mm along x each, without turning, fingers at 4 cm.
BASE_ROWS = np.zeros((1, H, A))
BASE_ROWS[0, :, 0] = 0.001 * np.arange(H)
BASE_ROWS[0, :, 4], BASE_ROWS[0, :, 5] = 1.0, 0.04


def slow_model() -> onnx.ModelProto:
    """Everything in the latent is the brightness of both images, 0 to 1."""
    return model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["grey"], keepdims=0),
            helper.make_node("Cast", ["tokens"], ["tokens_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["tokens_f"], ["words"], keepdims=0),
            helper.make_node("Mul", ["words", "nothing"], ["unheard"]),
            helper.make_node("Add", ["grey", "unheard"], ["seen"]),
            helper.make_node("Mul", ["ones", "seen"], ["latent"]),
        ],
        [
            tensor("image", TensorProto.UINT8, [1, 2, SIDE_PX, SIDE_PX, 3]),
            tensor("tokens", TensorProto.INT64, [1, MAX_TOKENS]),
        ],
        [tensor("latent", TensorProto.FLOAT, LATENT)],
        [constant("nothing", 0.0), constant("ones", np.full(LATENT, 1 / 255.0))],
    )


def fast_model(base_rows: Any = BASE_ROWS) -> onnx.ModelProto:
    """Base rows, moved by the age along y and by the light of the wrist image along z."""
    to_y, to_z = np.zeros((1, A)), np.zeros((1, A))
    to_y[0, 1], to_z[0, 2] = AGE_TO_Y, LIGHT_TO_Z / 255.0
    return model(
        [
            helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["image_f"], ["light"], keepdims=0),
            helper.make_node("Mul", ["light", "to_z"], ["z"]),
            helper.make_node("Mul", ["latent_age_s", "to_y"], ["y"]),
            helper.make_node("ReduceMean", ["latent"], ["l"], keepdims=0),
            helper.make_node("ReduceMean", ["state"], ["s"], keepdims=0),
            helper.make_node("Add", ["l", "s"], ["rest"]),
            helper.make_node("Mul", ["rest", "nothing"], ["unused"]),
            helper.make_node("Add", ["base", "y"], ["moved"]),
            helper.make_node("Add", ["moved", "z"], ["lifted"]),
            helper.make_node("Add", ["lifted", "unused"], ["actions"]),
            helper.make_node("Mul", ["latent_age_s", "nothing"], ["done"]),
        ],
        [
            tensor("latent", TensorProto.FLOAT, LATENT),
            tensor("latent_age_s", TensorProto.FLOAT, [1, 1]),
            tensor("state", TensorProto.FLOAT, [1, STATE_SIZE]),
            tensor("image", TensorProto.UINT8, [1, *WRIST_SHAPE, 3]),
        ],
        [
            tensor("actions", TensorProto.FLOAT, [1, H, A]),
            tensor("done", TensorProto.FLOAT, [1, 1]),
        ],
        [
            constant("to_y", to_y),
            constant("to_z", to_z),
            constant("nothing", 0.0),
            constant("base", base_rows),
        ],
    )


def write_learned(folder: Path, fast: onnx.ModelProto | None = None) -> Path:
    """Write the export into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slow.onnx").write_bytes(slow_model().SerializeToString())
    (folder / "fast.onnx").write_bytes((fast or fast_model()).SerializeToString())
    (folder / VOCABULARY_FILE).write_text(default_vocabulary().to_json(), encoding="utf-8")
    write_manifest(folder, "tiny-learned", Kind.SPLIT, ("slow", "fast"), TINY, "for tests")
    return folder
