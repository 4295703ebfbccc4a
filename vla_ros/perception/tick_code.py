# SPDX-License-Identifier: Apache-2.0
"""Tick code: the exposure time written into the bottom rows of a simulated image.

Whoever decodes it from a policy's input proves how old the picture is, whatever the stamps say.
The last 8 rows hold 48 black or white blocks, each 4 px wide, from the left, most significant bit
first: 40 bits of time [ms] and an 8-bit checksum, the sum of the five bytes modulo 256.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_MS
from vla_ros.errors import ShapeError

CODE_ROWS = 8
CODE_BLOCK_PX = 4
CODE_BLOCKS = 48
CODE_WIDTH = CODE_BLOCK_PX * CODE_BLOCKS

_TIME_BITS = 40
_BYTES = _TIME_BITS // 8


def draw(rgb: NDArray[np.uint8], tick_ns: int) -> None:
    """Write the code into an image (H, W, 3), in place; the time is cut to 1 ms and 40 bits.

    Raises:
        ShapeError: if the image is not uint8 RGB or is smaller than 192 x 8.
    """
    _check(rgb)
    payload = (tick_ns // NS_PER_MS % (1 << _TIME_BITS)).to_bytes(_BYTES, "big")
    code = np.frombuffer(payload + bytes([sum(payload) % 256]), dtype=np.uint8)
    blocks = np.repeat(np.unpackbits(code) * np.uint8(255), CODE_BLOCK_PX)
    rgb[-CODE_ROWS:, :CODE_WIDTH] = blocks[None, :, None]


def strip_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy (8, W, 3) of the rows that carry the code."""
    return rgb[-CODE_ROWS:].copy()


def decode(strip: NDArray[np.uint8]) -> int | None:
    """Read the code from the last 8 rows of an image (H >= 8, W >= 192, 3).

    Returns:
        The time [ns], a multiple of 1 ms below 2**40 ms; None if there is no intact code.

    Raises:
        ShapeError: if the array cannot hold a code.
    """
    _check(strip)
    grey = strip[-CODE_ROWS:, :CODE_WIDTH].astype(np.float32).mean(axis=2)
    blocks = grey.reshape(CODE_ROWS, CODE_BLOCKS, CODE_BLOCK_PX)
    # JPEG smears the borders: only the inner pixels count.
    inner = blocks[2 : CODE_ROWS - 1, :, 1:-1].mean(axis=(0, 2))
    if np.any((inner > 80.0) & (inner < 175.0)):
        return None
    code = np.packbits(inner > 127.0).tobytes()
    if sum(code[:_BYTES]) % 256 != code[_BYTES] or not any(code):
        return None
    return int.from_bytes(code[:_BYTES], "big") * NS_PER_MS


def _check(image: NDArray[np.uint8]) -> None:
    is_rgb = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not is_rgb or image.shape[0] < CODE_ROWS or image.shape[1] < CODE_WIDTH:
        raise ShapeError(
            f"a tick code needs uint8 (>= {CODE_ROWS}, >= {CODE_WIDTH}, 3), "
            f"got {image.dtype} {image.shape}"
        )
