# SPDX-License-Identifier: Apache-2.0
"""Runs episodes one after the other, each from nothing.

Nothing is carried over from one to the next: a result depends on case and seed alone.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.control.host import build_host
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import load_robot
from vla_ros.sim.plant import build_arm_plant
from vla_ros.sim.prepare import prepare_arm
from vla_ros.sim.rig.case import RigCase
from vla_ros.sim.rig.episode import SOURCE, Episode
from vla_ros.sim.rig.metrics import EpisodeResult
from vla_ros.sim.rig.scenario import SURFACE_Z_M, Task

__all__ = ["RigCase", "RigRunner"]

_START_NS = 10 * NS_PER_S  # any instant: all episodes begin at the same one
_SETTLE_TICKS = 50
_numbers = itertools.count()  # several runners of a process have rings of their own


class RigRunner:
    """Runs episodes of an arm; build once per process, run many.

    Thread-safety: one thread.
    """

    def __init__(self, robot: str = "fr3", rate_hz: float = 1000.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vla_ros_rig_")
        self._robot = load_robot(robot)
        self._arm = arm_of(self._robot)
        self._rate_hz = rate_hz
        folder = Path(self._folder.name)
        self._bare = prepare_arm(folder, self._robot, rate_hz).model
        self._over_surface = prepare_arm(folder, self._robot, rate_hz, SURFACE_Z_M).model
        self._prefix = f"vla_ros.rig{os.getpid()}.{next(_numbers)}"
        self._segments = core.SegmentWriter(self._prefix, SOURCE)
        self._lease = core.LeaseWriter(self._prefix)

    def close(self) -> None:
        """Free files and shared memory."""
        self._segments.close()
        for stream in ("state", "lease", "stop", "segment.policy", "segment.teleop"):
            core.ShmRing.unlink(f"{self._prefix}.{stream}")
        self._folder.cleanup()

    def run(self, case: RigCase, seed: int) -> EpisodeResult:
        """Run one episode."""
        model = self._over_surface if case.scenario.task == Task.WIPE.value else self._bare
        plant = build_arm_plant(model, self._robot.joint_names, "")
        host = build_host(case.control, self._arm, plant, self._prefix)
        plant.request_reset(list(self._robot.home_q))
        start_ns = host.run_ticks(_START_NS, _SETTLE_TICKS)
        episode = Episode(case, seed, start_ns, host, self._segments, self._lease)
        return episode.run(core.StateReader(self._prefix))
