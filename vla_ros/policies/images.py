# SPDX-License-Identifier: Apache-2.0
"""From camera frames to the images of a network: cropped, brought to size, nothing else."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError
from vla_ros.types import CameraFrame

Image = NDArray[np.uint8]

_INTERPOLATION = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}


def write_image(
    frame: CameraFrame, out: Image, *, crop_px: tuple[int, int, int, int], resize: str
) -> None:
    """Write the image of a frame into ``out`` (h, w, 3), RGB.

    Args:
        frame: what a camera saw.
        out: where it goes; its size is the one wanted.
        crop_px: cut off first: top, bottom, left, right [px].
        resize: "area", "linear", "nearest", or "none", which demands equal sizes.

    Raises:
        PolicyError: if nothing is left after the crop, or the size differs and must not.
    """
    top, bottom, left, right = crop_px
    height, width = frame.rgb.shape[:2]
    image = frame.rgb[top : height - bottom, left : width - right]
    if image.size == 0:
        raise PolicyError(f"{frame.name}: nothing of {width} x {height} px is left after the crop")
    if image.shape == out.shape:
        out[...] = image
    elif resize == "none":
        raise PolicyError(
            f"{frame.name} has {image.shape[1]} x {image.shape[0]} px, "
            f"the policy wants {out.shape[1]} x {out.shape[0]}"
        )
    else:
        size = (out.shape[1], out.shape[0])
        out[...] = cv2.resize(image, size, interpolation=_INTERPOLATION[resize])
