# SPDX-License-Identifier: Apache-2.0
"""The whole model: weights of both halves, from images, words and state to rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla_ros.learning.expert import ExpertOutput, expert_shapes, run_expert
from vla_ros.learning.model_config import PHASES, ModelConfig
from vla_ros.learning.ops import images_to_float
from vla_ros.learning.parameters import Arrays, Shapes, Weights, initial_arrays
from vla_ros.learning.trunk import run_trunk, trunk_shapes
from vla_ros.learning.views import SCENE_ROWS, WRIST_BOX_PX, WRIST_SHAPE

if TYPE_CHECKING:
    from torch import Tensor


def model_shapes(config: ModelConfig) -> Shapes:
    """Return the weights of both halves."""
    return {**trunk_shapes(config), **expert_shapes(config)}


def initial_weights(config: ModelConfig, seed: int) -> Arrays:
    """Return new weights."""
    return initial_arrays(model_shapes(config), seed)


def slow_half(p: Weights, config: ModelConfig, image: Tensor, tokens: Tensor) -> Tensor:
    """Return the latent (B, T, D) of whole images.

    Args:
        p: weights.
        config: sizes.
        image: (B, 2, 224, 224, 3) uint8, scene and wrist camera.
        tokens: (B, L) int64.
    """
    scene = images_to_float(image[:, 0, SCENE_ROWS[0] : SCENE_ROWS[1]])
    return run_trunk(p, config, scene, images_to_float(small_wrist(image)), tokens)


def small_wrist(image: Tensor) -> Tensor:
    """Return the wrist image (B, 52, 56, 3), 0..255, of whole images (B, 2, 224, 224, 3)."""
    return shrunk(image[:, 1])


def shrunk(wrist: Tensor) -> Tensor:
    """Return images (B, 52, 56, 3), 0..255, of whole ones of the wrist (B, 224, 224, 3).

    Rounded like the uint8 image that the fast half is handed.
    """
    from torch.nn.functional import avg_pool2d

    wrist = wrist[:, : WRIST_SHAPE[0] * WRIST_BOX_PX].movedim(-1, -3).float()
    return avg_pool2d(wrist, WRIST_BOX_PX).round().movedim(-3, -1)


def fast_half(
    p: Weights, config: ModelConfig, latent: Tensor, age_s: Tensor, state: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """Return actions (B, H, 6) and the probability (B, 1) that the task is done.

    Args:
        p: weights.
        config: sizes.
        latent: (B, T, D).
        age_s: (B, 1) [s]; negative: not known.
        state: (B, 24).
        image: (B, 52, 56, 3), 0..255, the wrist image as ``views.shrink_wrist`` makes it.
    """
    out = run_expert(p, config, latent, age_s, state, images_to_float(image))
    return out.actions, done_of(out)


def done_of(out: ExpertOutput) -> Tensor:
    """Return the probability (B, 1) that the task is done."""
    done = PHASES.index("done")
    return out.phase.softmax(dim=-1)[:, done : done + 1]
