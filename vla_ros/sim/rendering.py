# SPDX-License-Identifier: Apache-2.0
"""Camera images of the simulation: colour and metric depth from one drawing pass per camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import mujoco
import numpy as np
from mujoco.rendering.classic import gl_context
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.perception import tick_code as tick_code_module
from vla_ros.types import CameraFrame, CameraIntrinsics

# MuJoCo cameras look along -z with y up; optical frames (REP 103) along z with y down.
_OPTICAL_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0])


class SceneRenderer:
    """Draws named cameras of a model for any state.

    Args:
        model: compiled model, or the path of a .mjb file.
        camera_names: cameras to draw, in this order.
        width, height: image size [px].
        tick_code: write the time of the state into the bottom rows of each image.

    Raises:
        ConfigError: if the model or a camera is missing, or no OpenGL context can be made.

    Thread-safety: one thread; the OpenGL context belongs to the thread that made it.
    """

    def __init__(
        self,
        model: mujoco.MjModel | Path | str,
        camera_names: Sequence[str],
        width: int = 224,
        height: int = 224,
        tick_code: bool = True,
    ) -> None:
        self._context: mujoco.MjrContext | None = None
        self._gl: gl_context.GLContext | None = None
        self._model = model if isinstance(model, mujoco.MjModel) else _load(Path(model))
        self._camera_ids = {name: self._find_camera(name) for name in camera_names}
        self._tick_code = tick_code
        self._width, self._height = width, height
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 8)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._open_context()
        self._depth_terms = _depth_terms(self._model)

    def render(
        self, qpos: NDArray[np.float64], qvel: NDArray[np.float64] | None, tick_ns: int
    ) -> dict[str, CameraFrame]:
        """Draw every camera.

        Args:
            qpos: (nq,) state to draw.
            qvel: (nv,) or None; nothing drawn depends on it.
            tick_ns: time of the state [ns], the exposure time of the images.

        Raises:
            ConfigError: if the vector does not fit the model, or after ``close``.
        """
        if self._context is None or self._gl is None:
            raise ConfigError("the renderer is closed")
        if qpos.shape != (self._model.nq,):
            raise ConfigError(f"qpos must have shape ({self._model.nq},), got {qpos.shape}")
        self._data.qpos[:] = qpos
        if qvel is not None:
            self._data.qvel[:] = qvel
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._gl.make_current()
        return {name: self._render_camera(name, tick_ns) for name in self._camera_ids}

    def close(self) -> None:
        """Free the OpenGL resources; safe to call twice."""
        if self._context is not None and self._gl is not None:
            self._gl.make_current()
            self._context.free()
        self._context = None
        if self._gl is not None:
            self._gl.free()
        self._gl = None

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _find_camera(self, name: str) -> int:
        index = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            known = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise ConfigError(f"the model has no camera {name!r}; it has {known}")
        return int(index)

    def _open_context(self) -> None:
        window = self._model.vis.global_
        window.offwidth = max(window.offwidth, self._width)
        window.offheight = max(window.offheight, self._height)
        try:
            self._gl = gl_context.GLContext(self._width, self._height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # each GL back end raises types of its own
            raise ConfigError(
                f"no OpenGL context (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {error}; "
                "on Debian and Ubuntu install libegl1 and libgl1-mesa-dri"
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR

    def _render_camera(self, name: str, tick_ns: int) -> CameraFrame:
        index = self._camera_ids[name]
        self._camera.fixedcamid = index
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        rgb = np.empty((self._height, self._width, 3), dtype=np.uint8)
        zbuffer = np.empty((self._height, self._width), dtype=np.float32)
        mujoco.mjr_readPixels(rgb, zbuffer, self._rect, self._context)
        rgb = np.ascontiguousarray(rgb[::-1])  # OpenGL's first row is the lowest
        if self._tick_code:
            tick_code_module.draw(rgb, tick_ns)
        return CameraFrame(
            name=name,
            rgb=rgb,
            depth_m=self._to_metres(zbuffer[::-1]),
            intrinsics=self._intrinsics(index),
            T_base_camera=self._camera_pose(index),
            capture_ns=tick_ns,
        )

    def _to_metres(self, zbuffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo the reversed-z projection; 0 where nothing was hit."""
        numerator, offset = self._depth_terms
        with np.errstate(divide="ignore"):
            depth = numerator / (zbuffer.astype(np.float64) + offset)
        depth[zbuffer <= 0.0] = 0.0
        return np.ascontiguousarray(depth, dtype=np.float32)

    def _intrinsics(self, index: int) -> CameraIntrinsics:
        focal = 0.5 * self._height / np.tan(np.radians(self._model.cam_fovy[index]) / 2)
        return CameraIntrinsics(
            width=self._width,
            height=self._height,
            fx=float(focal),
            fy=float(focal),
            cx=self._width / 2,
            cy=self._height / 2,
        )

    def _camera_pose(self, index: int) -> NDArray[np.float64]:
        T_base_camera = np.eye(4)
        R = self._data.cam_xmat[index].reshape(3, 3)
        T_base_camera[:3, :3] = R @ _OPTICAL_FROM_MUJOCO
        T_base_camera[:3, 3] = self._data.cam_xpos[index]
        return T_base_camera


def _depth_terms(model: mujoco.MjModel) -> tuple[float, float]:
    """Return (a, b) such that depth = a / (z + b) for the reversed z buffer."""
    near = float(np.float32(model.vis.map.znear * model.stat.extent))
    far = float(np.float32(model.vis.map.zfar * model.stat.extent))
    return near * far / (far - near), near / (far - near)


def _load(path: Path) -> mujoco.MjModel:
    from vla_ros.sim.scene import load_model

    return load_model(path)
