# SPDX-License-Identifier: Apache-2.0
"""Sizes of the model."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.config_fields import check_fields, setting

PHASES = (
    *("reach", "descend", "close", "missed", "open"),
    *("carry", "lower", "release", "look", "done"),
)
N_VIEWS = 2
SLOTS = 4  # objects that words can point at: 0 what to pick, 1 where to place, the others free
PICK_SLOT, PLACE_SLOT = 0, 1


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Widths of the layers; all else follows from the task."""

    vocabulary: int = setting(64, "entries of the vocabulary", ge=2, le=4096)
    word_dim: int = setting(32, "size of a word", ge=4, le=512)
    channels: int = setting(40, "channels of the slow trunk", ge=8, le=512)
    blocks: int = setting(2, "residual blocks of the slow trunk", ge=1, le=16)
    key_dim: int = setting(32, "size of queries, keys and values", ge=8, le=512)
    token_dim: int = setting(32, "size D of a latent token", ge=8, le=512)
    wrist_channels: int = setting(32, "channels of the towers that see the wrist", ge=8, le=512)
    hidden: int = setting(256, "width of the action expert", ge=16, le=2048)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tokens(self) -> int:
        """Number T of latent tokens: one per slot, two of the scene, two of the wrist."""
        return SLOTS + 4

    @property
    def latent_size(self) -> int:
        """Numbers in a latent, T x D."""
        return self.tokens * self.token_dim
