# SPDX-License-Identifier: Apache-2.0
"""Pictures of the contact tasks for the documentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.sim.contact.arm import ContactArm
from vla_ros.sim.contact.peg import PegRunner
from vla_ros.sim.contact.scene import WORK_BODY
from vla_ros.sim.contact.wipe import WipeConfig, WipeRunner

_WIDTH, _HEIGHT = 480, 360


def write_pictures(task: str, folder: Path) -> None:
    """Run one seed and write ``contact_<task>.png``: the arm, and the contact from close by.

    Raises:
        ConfigError: if no OpenGL context can be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if task == "peg":
        _, arm = PegRunner().run(0, "search")
    else:
        runner = WipeRunner(WipeConfig(surface="curved", lines=2))
        try:
            _, _, arm = runner.run(0)
        finally:
            runner.close()
    views = [draw(arm, 1.3, 135.0, -20.0), draw(arm, 0.22, 135.0, -20.0)]
    cv2.imwrite(str(folder / f"contact_{task}.png"), np.hstack(views)[:, :, ::-1])


def draw(
    arm: ContactArm, distance_m: float, azimuth_deg: float, elevation_deg: float
) -> NDArray[np.uint8]:
    """Return an image (360, 480, 3) of the arm from around its work piece, RGB.

    Raises:
        ConfigError: if no OpenGL context can be made.
    """
    camera = mujoco.MjvCamera()
    camera.lookat[:] = arm.data.xpos[arm.model.body(WORK_BODY).id] + (0.0, 0.0, 0.15 * distance_m)
    camera.distance, camera.azimuth, camera.elevation = distance_m, azimuth_deg, elevation_deg
    try:
        renderer = mujoco.Renderer(arm.model, _HEIGHT, _WIDTH)
    except Exception as error:  # each GL back end raises types of its own
        raise ConfigError(f"no OpenGL context: {error}") from error
    with renderer:
        renderer.update_scene(arm.data, camera)
        image: NDArray[np.uint8] = renderer.render()
    return image
