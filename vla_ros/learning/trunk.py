# SPDX-License-Identifier: Apache-2.0
"""The slow trunk: two images and a sentence to latent tokens.

Words become queries, one per slot: every slot attends to the words it is about, and what it reads
there is compared with every cell of a convolutional map of the scene. A softmax over the cells
gives the place: the mean of where the cells look on the table, each corrected by a vote of its own.
No slot sees what another one read, so a pair of words never met in training is read like any other.

Sources: spatial soft argmax, arXiv 1509.06113; words that ground places, CLIPort, arXiv 2109.12098.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_ros.learning.model_config import SLOTS, ModelConfig
from vla_ros.learning.ops import affine, attend, constant, convolve, in_sequence, join, to_cells
from vla_ros.learning.parameters import Shapes, Weights, convolution, linear
from vla_ros.learning.views import CELL_PX, CELLS, table_grid
from vla_ros.learning.wrist_tower import cell_places, see_wrist, tower_shapes

if TYPE_CHECKING:
    from torch import Tensor

PLACE_CENTRE_M = (0.48, 0.0)
PLACE_SCALE_M = 0.2
_TOLD = 4  # numbers of a slot's token with a meaning of their own: place and yaw
_VOTE_M = 0.05
_POOLS = (4, 8)  # parts of the scene that the free tokens summarise
_POOL_CHANNELS = 8
_WRIST_QUERIES = 4


@dataclass(frozen=True)
class Pointed:
    """What the words point at.

    Attributes:
        places: (B, slots, 2) where the objects are, x and y in base [m].
        logits: (B, slots, cells) match of each slot with each cell of the scene.
        yaw: (B, slots, 2) cosine and sine of four times their yaw.
        slots: (B, slots, D) a token for each: place (x, y less 0.48, 0 m, in 0.2 m), yaw, and what
            else there is to say.
    """

    places: Tensor
    logits: Tensor
    yaw: Tensor
    slots: Tensor


def trunk_shapes(config: ModelConfig) -> Shapes:
    """Return the weights of the trunk."""
    c, k, d, w = config.channels, config.key_dim, config.token_dim, config.word_dim
    shapes: Shapes = {
        "trunk/words/embed": (config.vocabulary, w),
        **linear("trunk/words/context", 3 * w, w),
        **linear("trunk/words/attention", w, SLOTS),
        "trunk/words/query/w": (SLOTS, w, k),
        **convolution("trunk/stem", 3, c, CELL_PX),
        **linear("trunk/where", 2, c),
    }
    for i in range(config.blocks):
        # The second half of a block starts near zero, so that depth changes nothing at first.
        shapes |= convolution(f"trunk/block{i}/a", c, c, 3)
        shapes |= convolution(f"trunk/block{i}/b", c, c, 3, small=True)
    pooled = _POOLS[0] * _POOLS[1] * _POOL_CHANNELS
    return {
        **shapes,
        **linear("trunk/key", c, k),
        **linear("trunk/value", c, k),
        **linear("trunk/vote", c, 2, small=True),
        **linear("trunk/slot", k + 1, d - _TOLD),
        **linear("trunk/yaw", k, 2, small=True),
        **linear("trunk/pool", c, _POOL_CHANNELS),
        **linear("trunk/summary", pooled, 2 * d),
        **tower_shapes("trunk/wrist", config.wrist_channels),
        **linear("trunk/wrist/key", config.wrist_channels, _WRIST_QUERIES),
        **linear("trunk/wrist/out", _WRIST_QUERIES * (2 + config.wrist_channels), 2 * d),
    }


def run_trunk(
    p: Weights, config: ModelConfig, scene: Tensor, wrist: Tensor, tokens: Tensor
) -> Tensor:
    """Return the latent (B, T, D) of a batch.

    Args:
        p: weights.
        config: sizes.
        scene: (B, 3, 112, 224) in -1..1, see ``views``.
        wrist: (B, 3, 52, 56) in -1..1.
        tokens: (B, L) int64.
    """
    cells = see_scene(p, config, scene)
    return latent_of(p, config, cells, point(p, cells, tokens), wrist)


def point(p: Weights, cells: Tensor, tokens: Tensor) -> Pointed:
    """Return what the words point at in the cells (B, 1568, C) of a scene."""
    found = attend(_read(p, tokens), affine(p, "trunk/key", cells), affine(p, "trunk/value", cells))
    grid = constant(table_grid().reshape(-1, 2), cells)
    places = found.weights @ (grid + _VOTE_M * affine(p, "trunk/vote", cells))
    scaled = (places - constant(PLACE_CENTRE_M, cells)) / PLACE_SCALE_M
    yaw = affine(p, "trunk/yaw", found.values)
    rest = affine(p, "trunk/slot", join([found.values, found.peak]))
    return Pointed(places=places, logits=found.logits, yaw=yaw, slots=join([scaled, yaw, rest]))


def latent_of(
    p: Weights, config: ModelConfig, cells: Tensor, pointed: Pointed, wrist: Tensor
) -> Tensor:
    """Return the latent (B, T, D): a token per slot, two of the scene, two of the wrist."""
    rest = join([_summary(p, cells), _see_wrist(p, wrist)])
    return in_sequence([pointed.slots, rest.reshape(len(rest), -1, config.token_dim)])


def _read(p: Weights, tokens: Tensor) -> Tensor:
    """Return a query (B, slots, K) per slot from the words it attends to."""
    words = p["trunk/words/embed"][tokens]
    known = (tokens != 0).to(words.dtype).unsqueeze(-1)
    words = words * known
    nothing = words[:, :1] * 0.0
    before, after = in_sequence([nothing, words[:, :-1]]), in_sequence([words[:, 1:], nothing])
    context = affine(p, "trunk/words/context", join([before, words, after])).relu()
    scores = affine(p, "trunk/words/attention", context) - 1e4 * (1.0 - known)
    attention = scores.softmax(dim=1).transpose(1, 2)  # (B, slots, L)
    read = attention @ context
    return (read.unsqueeze(2) @ p["trunk/words/query/w"]).squeeze(2)


def see_scene(p: Weights, config: ModelConfig, scene: Tensor) -> Tensor:
    """Return the cells (B, 1568, C) of scenes (B, 3, 112, 224) in -1..1."""
    return to_cells(see_part(p, config, scene, constant(table_grid(), scene)))


def halo_cells(config: ModelConfig) -> int:
    """Return how far, in cells, the image changes what the trunk makes of a cell."""
    return 2 * config.blocks


def see_part(p: Weights, config: ModelConfig, scene: Tensor, grid: Tensor) -> Tensor:
    """Return the map (B, C, rows, columns) of a part of a scene.

    Right where every neighbour within ``halo_cells`` is in the part, or outside the scene too.

    Args:
        p: weights.
        config: sizes.
        scene: (B, 3, 4 rows, 4 columns) in -1..1.
        grid: (rows, columns, 2) where its cells look on the table, x and y in base [m].
    """
    x = convolve(p, "trunk/stem", scene, stride=CELL_PX)
    grid = (grid - constant(PLACE_CENTRE_M, scene)) / PLACE_SCALE_M
    x = (x + affine(p, "trunk/where", grid).permute(2, 0, 1)).relu()
    for i in range(config.blocks):
        y = convolve(p, f"trunk/block{i}/a", x, padding=1).relu()
        x = (x + convolve(p, f"trunk/block{i}/b", y, padding=1)).relu()
    return x


def _summary(p: Weights, cells: Tensor) -> Tensor:
    """Return two tokens (B, 2 D) on the whole scene."""
    x = affine(p, "trunk/pool", cells).relu()
    rows, columns = (side // parts for side, parts in zip(CELLS, _POOLS, strict=True))
    x = x.reshape(len(x), _POOLS[0], rows, _POOLS[1], columns, _POOL_CHANNELS).mean(dim=(2, 4))
    return affine(p, "trunk/summary", x.flatten(1))


def _see_wrist(p: Weights, wrist: Tensor) -> Tensor:
    """Return two tokens (B, 2 D) on the wrist image."""
    cells = see_wrist(p, "trunk/wrist", wrist)
    weights = affine(p, "trunk/wrist/key", cells).softmax(dim=1).transpose(1, 2)
    found = join([weights @ cell_places(wrist), weights @ cells])
    return affine(p, "trunk/wrist/out", found.flatten(1))
