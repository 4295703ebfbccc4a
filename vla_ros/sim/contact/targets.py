# SPDX-License-Identifier: Apache-2.0
"""Targets of the wiping task at 10 Hz over a link that loses some, through the control host.

The reference is the runtime's own: each message becomes a segment in shared memory, the C++ control
host checks it, interpolates by time stamp, and brakes and holds when rows run out. The host moves
an arm of its own in free space; the arm in contact follows the reference that the host publishes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.plant import build_plant, fr3_arm
from vla_ros.sim.scene import build_scene, describe_scene, save_model

Array = NDArray[np.float64]

SOURCE = "policy"
PERIOD_NS = 100 * NS_PER_MS  # of the targets
ROWS = 4  # of a message, one period apart: two lost in a row are bridged, three are not
# Softer than in free space: after a hold the tool must not be torn along.
SEAM_S = 0.1
MAX_SPEED_M_S = 0.2
_LEASE_NS = 1000 * NS_PER_S


class HostReference:
    """The reference that a control host makes of targets that may get lost.

    Args:
        loss: share of messages that never arrive; the seed of a run decides which.
    """

    def __init__(self, loss: float) -> None:
        self._loss = loss
        self._folder = tempfile.TemporaryDirectory(prefix="vla_ros_contact_")
        self._model_path = Path(self._folder.name) / "free.mjb"
        model = build_scene()
        self._home_qpos = np.array(describe_scene(model).home_qpos)
        save_model(model, self._model_path)
        self._prefix = f"vla_ros.contact{os.getpid()}"
        self._host: Any = None
        self._lease: Any = None
        self._segments: Any = None

    def close(self) -> None:
        """Free the shared memory."""
        self._unlink()
        self._folder.cleanup()

    def start(self, q: Array, seed: int) -> None:
        """Put a new host's arm at rest at ``q`` (7,) [rad]; nothing is left of an earlier run."""
        self._unlink()
        plant = build_plant(self._model_path, "")
        config = ControlConfig(seam_time_constant_s=SEAM_S, max_speed_m_s=MAX_SPEED_M_S)
        self._host = build_host(config, fr3_arm(), plant, self._prefix)
        self._lease = core.LeaseWriter(self._prefix)
        self._segments = core.SegmentWriter(self._prefix, SOURCE)
        qpos = self._home_qpos.copy()
        qpos[:7] = q
        plant.request_reset(list(qpos))
        self.now_ns = self._host.run_ticks(NS_PER_S, 100)
        self._lease.write(SOURCE, 1, self.now_ns + _LEASE_NS)
        self._random = np.random.default_rng([seed, 78])
        self.sent = self.lost = 0

    def _unlink(self) -> None:
        self._host = self._lease = self._segments = None
        for stream in ("state", "lease", "stop", "segment.policy", "segment.teleop"):
            core.ShmRing.unlink(f"{self._prefix}.{stream}")

    def send(self, positions: Array, rotation: Array, velocities: Array) -> bool:
        """Send the path of the next ``ROWS - 1`` periods; False if the link lost the message.

        Args:
            positions: (ROWS, 3) [m], where the TCP of the hand shall be at 0, 0.1, ... s from now.
            rotation: (3, 3) its orientation in base.
            velocities: (ROWS, 3) [m/s].
        """
        self.sent += 1
        if self._random.random() < self._loss:
            self.lost += 1
            return False
        stamp = LatencyStamp(kind=StampKind.CHUNK, capture_oldest_ns=self.now_ns)
        self._segments.write(
            stamp.to_bytes(),
            self.now_ns + PERIOD_NS * np.arange(ROWS, dtype=np.int64),
            np.ascontiguousarray(positions),
            np.tile(matrix_to_quat_xyzw(rotation), (ROWS, 1)),
            np.hstack([velocities, np.zeros((ROWS, 3))]),
            np.full(ROWS, 0.08),
            self.now_ns + (ROWS - 1) * PERIOD_NS,
            1,
            1,
        )
        return True

    def step(self) -> tuple[Array, Array]:
        """Advance by one tick; return position (3,) [m] and velocity (3,) [m/s] of the TCP."""
        self.now_ns = self._host.run_ticks(self.now_ns, 1)
        state = self._host.state()
        return np.array(state["ref_position"]), np.array(state["ref_twist"][:3])

    def rejected(self) -> int:
        """Return how many segments the host has refused."""
        return int(sum(self._host.counters()["rejected"].values()))
