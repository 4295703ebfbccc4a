# SPDX-License-Identifier: Apache-2.0
"""An exported policy on the CPU, for evaluation in virtual time: its halves as the runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning.manifest import VOCABULARY_FILE, read_manifest
from vla_ros.learning.relative_rows import CHUNK_DT_NS, CHUNK_ROWS, to_chunk
from vla_ros.learning.state_vector import state_vector
from vla_ros.learning.views import shrink_wrist
from vla_ros.learning.vocabulary import Vocabulary
from vla_ros.perception import tick_code
from vla_ros.policies.base import Tensors
from vla_ros.policies.instruction import parse_instruction
from vla_ros.types import ActionChunk, CameraFrame, Latent, Observation

CAMERAS = ("scene_camera", "wrist_camera")
_DONE = 0.5


class LearnedSlowPolicy:
    """Images and words to a latent.

    Args:
        folder: of the export.

    Raises:
        ConfigError: if a file is missing or not the one that the manifest states.
    """

    name = "learned"

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        self.max_age_s = float(manifest["max_age_s"])
        self._session = _open(folder, manifest, "slow")
        self._vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        parse_instruction(instruction)
        self._vocabulary.encode(instruction)

    def reset(self) -> None:
        """Do nothing: it remembers nothing."""

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent, and the tick code of the scene image.

        Raises:
            PolicyError: if an image is missing.
            InstructionError: if a word is unknown.
        """
        frames = [_frame(observation, name) for name in CAMERAS]
        image = np.stack([frame.rgb for frame in frames])[None]
        tokens = self._vocabulary.encode(observation.instruction)
        (latent,) = self._session.run(["latent"], {"image": image, "tokens": tokens})
        return {"latent": latent, "tick_code": tick_code.strip_of(frames[0].rgb)}


class LearnedFastPolicy:
    """A latent, the robot's state and a fresh wrist image to rows.

    Args:
        folder: of the export.
        tells_age: False hides the age from the network, as in half of its training.

    Raises:
        ConfigError: if a file is missing or not the one that the manifest states.
    """

    name = "learned"
    chunk_rows = CHUNK_ROWS
    chunk_dt_ns = CHUNK_DT_NS

    def __init__(self, folder: Path, tells_age: bool = True) -> None:
        self._session = _open(folder, read_manifest(folder), "fast")
        self._tells_age = tells_age

    def reset(self) -> None:
        """Do nothing: it remembers nothing."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return 16 rows, 30 per second, beginning at the reference now in force.

        Raises:
            PolicyError: if the wrist image or the latent is missing, or a row is not finite.
        """
        tensor = latent.tensors.get("latent")
        if tensor is None:
            raise PolicyError("the latent has no tensor 'latent'")
        age_s = 1e-9 * latent.stamp.age_ns(now_ns) if self._tells_age else -1.0
        feeds: dict[str, NDArray[Any]] = {
            "latent": np.asarray(tensor, dtype=np.float32),
            "latent_age_s": np.array([[age_s]], dtype=np.float32),
            "state": state_vector(observation.state)[None],
            "image": shrink_wrist(_frame(observation, CAMERAS[1]).rgb)[None],
        }
        actions, done = self._session.run(["actions", "done"], feeds)
        is_done = bool(done[0, 0] > _DONE)
        phase = "done" if is_done else "acting"
        return to_chunk(actions[0], observation.state, phase=phase, done=is_done)


def _frame(observation: Observation, camera: str) -> CameraFrame:
    frame = observation.frames.get(camera)
    if frame is None:
        raise PolicyError(f"no image of {camera!r}; got {sorted(observation.frames) or 'none'}")
    return frame


def _open(folder: Path, manifest: dict[str, Any], graph: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("onnxruntime is missing: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = folder / manifest["graphs"][graph]["file"]
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
