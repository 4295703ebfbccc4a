# SPDX-License-Identifier: Apache-2.0
"""A control host on the simulated FR3 in virtual time, with the means to send it anything."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.plant import build_plant, fr3_arm

STREAMS = ("state", "lease", "stop", "segment.policy", "segment.teleop")


class HostRig:
    """Virtual time begins at 1 s; ``policy`` holds epoch 1 for as long as ``lease_s`` says."""

    def __init__(self, model_path: Path, config: ControlConfig | None = None) -> None:
        self.config = config or ControlConfig()
        self.prefix = f"vla_ros.rig{os.getpid()}"
        self.plant = build_plant(model_path, "")
        self.host = build_host(self.config, fr3_arm(), self.plant, self.prefix)
        self.lease = core.LeaseWriter(self.prefix)
        self.segments = core.SegmentWriter(self.prefix, "policy")
        self.now_ns = NS_PER_S
        self.states: list[dict] = []

    def close(self) -> None:
        for stream in STREAMS:
            core.ShmRing.unlink(f"{self.prefix}.{stream}")

    def grant(
        self, lease_s: float = 100.0, epoch: int = 1, source: str = "policy", instruction: int = 0
    ) -> None:
        self.lease.write(source, epoch, self.now_ns + int(lease_s * NS_PER_S), instruction)

    def run(self, duration_s: float) -> list[dict]:
        """Tick one by one; return the states."""
        states = []
        for _ in range(round(duration_s * self.config.rate_hz)):
            self.now_ns = self.host.run_ticks(self.now_ns, 1)
            states.append(self.host.state())
        self.states += states
        return states

    def send(
        self,
        velocity=(0.0, 0.1, 0.0),
        duration_s=2.0,
        *,
        expire_s=100.0,
        epoch=1,
        rows=None,
        offset=(0.0, 0.0, 0.0),
        edit=None,
        **stamp_fields,
    ) -> None:
        """Send rows that go straight on from the reference in force; more fields of their stamp."""
        state = self.host.state()
        n = rows or 32
        times_s = np.linspace(0, duration_s, n)
        start = np.array(state["ref_position"]) + np.array(offset)
        fields = {
            "target_ns": self.now_ns + (times_s * NS_PER_S).astype(np.int64),
            "positions": start + np.outer(times_s, velocity),
            "quats_xyzw": np.tile(state["ref_quat_xyzw"], (n, 1)),
            "twists_base": np.tile([*velocity, 0.0, 0.0, 0.0], (n, 1)).astype(float),
            "gripper_width_m": np.full(n, 0.08),
        }
        if edit is not None:
            edit(fields)
        stamp = LatencyStamp(
            kind=StampKind.CHUNK,
            **{"capture_oldest_ns": self.now_ns - 50 * NS_PER_MS, **stamp_fields},
        )
        self.segments.write(
            stamp.to_bytes(),
            fields["target_ns"],
            np.ascontiguousarray(fields["positions"]),
            np.ascontiguousarray(fields["quats_xyzw"]),
            np.ascontiguousarray(fields["twists_base"]),
            fields["gripper_width_m"],
            self.now_ns + int(expire_s * NS_PER_S),
            epoch,
            1,
        )


def speed(state: dict) -> float:
    """Speed of the end effector [m/s]."""
    return float(np.linalg.norm(state["twist"][:3]))
