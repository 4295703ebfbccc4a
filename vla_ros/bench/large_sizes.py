# SPDX-License-Identifier: Apache-2.0
"""How large a made-up policy is: both halves are transformers; see ``large_policy``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError

PATCH_PX, CAMERAS, WORDS = 16, ("scene_camera", "wrist_camera"), 16
ROWS, COLUMNS, STATE, AGE = 16, 10, 11, 1
VOCABULARY = ("<pad>", "<unk>", "bowl", "cube", "in", "into", "put", "red", "the")
_MLP = 4  # width of the hidden layer, in widths

# Rows that could be run: within 5 cm of the reference, hand down, fingers half open.
SCALE = np.array([0.05, 0.05, 0.05, *[0.05] * 6, 0.01], np.float32)
CENTRE = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.04], np.float32)


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """Sizes of one half."""

    layers: int = setting(2, "layers", ge=1, le=200)
    width: int = setting(64, "width of a token", ge=8, le=16384)
    heads: int = setting(4, "heads of attention", ge=1, le=256)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % self.heads:
            raise ConfigError(f"width must be a multiple of heads = {self.heads}, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class LargePolicy:
    """Sizes of a policy.

    Attributes:
        latent_dim: width of a token of the latent, one per patch and word.
    """

    slow: Transformer = field(default_factory=Transformer)
    fast: Transformer = field(default_factory=Transformer)
    side_px: int = setting(64, "side of the images", unit="px", ge=PATCH_PX, le=1024)
    latent_dim: int = setting(32, "width of a token of the latent", ge=8, le=8192)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.side_px % PATCH_PX:
            raise ConfigError(f"side_px must be a multiple of {PATCH_PX}, got {self.side_px}")

    @property
    def patches(self) -> int:
        """Patches of all images."""
        return len(CAMERAS) * (self.side_px // PATCH_PX) ** 2

    @property
    def latent_tokens(self) -> int:
        """Tokens of the latent."""
        return self.patches + WORDS


SIZES: dict[str, LargePolicy] = {
    "tiny": LargePolicy(),
    "small": LargePolicy(  # 0.09 and 0.02 billion
        slow=Transformer(layers=12, width=768, heads=12),
        fast=Transformer(layers=6, width=512, heads=8),
        side_px=224,
        latent_dim=256,
    ),
    "3b": LargePolicy(  # 3.0 and 0.3 billion
        slow=Transformer(layers=38, width=2560, heads=20),
        fast=Transformer(layers=24, width=1024, heads=16),
        side_px=224,
        latent_dim=1024,
    ),
}


def shapes_of(size: LargePolicy, half: str) -> dict[str, tuple[int, ...]]:
    """Return the weights of ``slow`` or ``fast``, by name."""
    t = size.slow if half == "slow" else size.fast
    w = t.width
    if half == "slow":
        shapes: dict[str, tuple[int, ...]] = {
            "patch": (3 * PATCH_PX**2, w),
            "words": (len(VOCABULARY), w),
            "place": (size.latent_tokens, w),
        }
        out = size.latent_dim
    else:
        shapes = {
            "latent": (size.latent_dim, w),
            "state": (STATE + AGE, w),
            "noise": (COLUMNS, w),
            "place": (ROWS, w),
        }
        out = COLUMNS
    for i in range(t.layers):
        shapes[f"{i}/norm1"] = shapes[f"{i}/norm2"] = (w,)
        shapes |= {f"{i}/{name}": (w, w) for name in ("q", "k", "v", "o")}
        shapes |= {f"{i}/up": (w, _MLP * w), f"{i}/down": (_MLP * w, w)}
    return shapes | {"norm": (w,), "out": (w, out)}


def parameters(size: LargePolicy, half: str) -> int:
    """Return the number of weights of a half."""
    return sum(int(np.prod(shape)) for shape in shapes_of(size, half).values())
