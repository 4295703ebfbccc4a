# SPDX-License-Identifier: Apache-2.0
"""The cell as a model, and a skip where nothing can be drawn."""

from __future__ import annotations

import mujoco
import pytest
from mujoco.rendering.classic import gl_context

from vla_ros.sim.scene import build_scene, describe_scene

MODEL = build_scene()
INFO = describe_scene(MODEL)


def skip_without_opengl() -> None:
    """Ask MuJoCo alone: what our own renderer cannot do must fail."""
    empty = mujoco.MjModel.from_xml_string("<mujoco/>")
    try:
        context = gl_context.GLContext(8, 8)
        context.make_current()
        drawing = mujoco.MjrContext(empty, mujoco.mjtFontScale.mjFONTSCALE_100)
    except Exception as error:
        pytest.skip(f"no OpenGL context: {error}")
    drawing.free()
    context.free()
