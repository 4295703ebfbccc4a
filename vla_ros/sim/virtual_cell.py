# SPDX-License-Identifier: Apache-2.0
"""The simulated cell in virtual time: C++ core, MuJoCo and cameras, moved on by whoever asks.

No process, no clock, no ROS: simulation steps are the time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.sim.lazy_frames import LazyFrames
from vla_ros.sim.plant import build_plant, fr3_arm
from vla_ros.sim.rendering import SceneRenderer
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.types import CameraFrame, RobotState, Segment

SOURCE = "policy"
_LEASE_NS = 200 * NS_PER_MS
_SETTLING_TICKS = 50

Array = NDArray[np.float64]


class VirtualCell:
    """One arm on its table. Build once, reset for every episode.

    Args:
        control: settings of the control host.
        cameras: names of the cameras that ``render`` draws; none is free.
        name: tells apart the cells of one process.

    Attributes:
        info: where things are in the simulation's state.
        now_ns: virtual time [ns].

    Thread-safety: one thread.
    """

    def __init__(self, control: ControlConfig, cameras: Sequence[str], name: str = "cell") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=f"vla_ros_{name}_")
        path = Path(self._folder.name) / "scene.mjb"
        model = build_scene()
        self.info = describe_scene(model)
        save_model(model, path)
        self._cameras = tuple(cameras)
        self._renderer = SceneRenderer(model, self._cameras, tick_code=True)
        self._prefix = f"vla_ros.{name}{os.getpid()}"
        self._plant = build_plant(path, snapshot_ring="")
        self._host = build_host(control, fr3_arm(), self._plant, self._prefix)
        self._segments = core.SegmentWriter(self._prefix, SOURCE)
        self._lease = core.LeaseWriter(self._prefix)
        self._states = core.StateReader(self._prefix)
        self._head = self._states.head
        self._period_ns = int(NS_PER_S / control.rate_hz)
        self.now_ns = NS_PER_S

    def close(self) -> None:
        """Free the OpenGL context and the shared memory."""
        self._renderer.close()
        for stream in ("state", "lease", "stop", "segment.policy", "segment.teleop"):
            core.ShmRing.unlink(f"{self._prefix}.{stream}")
        self._folder.cleanup()

    @property
    def qpos(self) -> Array:
        """Positions (nq,), as MuJoCo orders them: the truth, which no policy may see."""
        return np.array(self._plant.qpos())

    @property
    def qvel(self) -> Array:
        """Velocities (nv,), as MuJoCo orders them."""
        return np.array(self._plant.qvel())

    def reset(self, qpos: Array) -> None:
        """Put everything where ``qpos`` says and let it settle for 50 ticks."""
        self._plant.request_reset(list(qpos))
        self.now_ns = self._host.run_ticks(self.now_ns, _SETTLING_TICKS)
        self._head = self._states.head

    def state(self) -> RobotState:
        """Return what the control host published last."""
        return to_robot_state(self._host.state())

    def render(self) -> dict[str, CameraFrame]:
        """Draw the cameras now."""
        return self._renderer.render(self.qpos, None, self.now_ns)

    def expose(
        self, change: Callable[[dict[str, CameraFrame]], dict[str, CameraFrame]] | None = None
    ) -> Mapping[str, CameraFrame]:
        """Return the images of now, drawn when somebody looks; ``change`` is applied to them."""
        qpos, now_ns = self.qpos, self.now_ns

        def draw() -> dict[str, CameraFrame]:
            frames = self._renderer.render(qpos, None, now_ns)
            return change(frames) if change else frames

        return LazyFrames(self._cameras, draw)

    def ticks(self) -> dict[str, Any]:
        """Return what the control host published since the last call or reset, as columns."""
        columns: dict[str, Any] = self._states.since(self._head)
        self._head = columns["head"]
        return columns

    def push(self, body: str, force: Array) -> None:
        """Apply force and torque (6,) [N, N·m] to the centre of a body until told otherwise."""
        self._plant.set_external_force(body, [float(f) for f in force])

    def renew_lease(self, epoch: int, instruction_id: int = 0) -> None:
        """Let the policy move the arm for the next 200 ms; 0: whatever the instruction."""
        self._lease.write(SOURCE, epoch, self.now_ns + _LEASE_NS, instruction_id)

    def commit(self, segment: Segment) -> None:
        """Hand rows to the control host."""
        write_segment(self._segments, segment)

    def advance(self, until_ns: int) -> None:
        """Run control ticks until ``until_ns``, one at least."""
        ticks = max(1, -(-(until_ns - self.now_ns) // self._period_ns))
        self.now_ns = self._host.run_ticks(self.now_ns, ticks)

    def counters(self) -> dict[str, Any]:
        """Return what the control host has counted."""
        counted: dict[str, Any] = self._host.counters()
        return counted
