# SPDX-License-Identifier: Apache-2.0
"""A fast policy, with whatever hooks, on the simulated FR3: executor and C++ control host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from host_rig import HostRig

from vla_ros.chunking.executor import ChunkExecutor, StepResult
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.base import FastPolicy, Tensors
from vla_ros.policies.motion import MotionLimits, plan_rows
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import ActionChunk, Latent, Observation, RobotState

MS = 1_000_000
ROWS, DT_NS = 16, 33_333_333
BIAS_M = np.array([0.009, -0.012, 0.0])  # 15 mm
NO_TENSORS: Tensors = {"nothing": np.zeros(1, np.float32)}
_VALID_NS = 500 * MS


@contextmanager
def arm_at_home(folder: Path) -> Iterator[HostRig]:
    """The arm before a table with objects; its scene is saved in a folder."""
    path = folder / "scene.mjb"
    model = build_scene()
    save_model(model, path)
    rig = HostRig(path)
    rig.home = list(apply_layout(describe_scene(model), sample_layout(1)))
    try:
        yield rig
    finally:
        rig.close()


class BiasedPlanner:
    """Plans from the reference it is shown to a goal, but beside it."""

    name = "biased"
    chunk_rows, chunk_dt_ns = ROWS, DT_NS

    def __init__(self, goal: np.ndarray, bias: np.ndarray) -> None:
        self._aim = goal + bias

    def reset(self) -> None:
        pass

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        state = observation.state
        positions, quats = plan_rows(
            state.T_base_ref,
            state.twist_ref_base,
            self._aim,
            state.T_base_ref[:3, :3],
            ROWS,
            1e-9 * DT_NS,
            MotionLimits(),
        )
        return ActionChunk(
            target0_ns=now_ns,
            dt_ns=DT_NS,
            positions=positions,
            quats_xyzw=quats,
            gripper_width_m=np.full(ROWS, 0.04),
        )


@dataclass
class ArmWorld:
    """Steps of the fast loop, ``period_ns`` apart, in virtual time."""

    rig: HostRig
    policy: FastPolicy
    period_ns: int = 10 * MS
    results: list[StepResult] = field(default_factory=list)
    states: list[RobotState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._buffer = LatentBuffer()
        self._executor = ChunkExecutor(self.policy, self._buffer)
        self._context = BufferContext(episode_id=1, instruction_id=1)
        self._executor.set_context(self._context, self.rig.now_ns, None)
        self._seq = 0
        self.rig.grant()

    @property
    def state(self) -> RobotState:
        return to_robot_state(self.rig.host.state())

    @property
    def position(self) -> np.ndarray:
        return self.state.T_base_ee[:3, 3]

    def see(self, tensors: Tensors = NO_TENSORS) -> None:
        """Offer a latent of what is seen now."""
        self._seq += 1
        now_ns = self.rig.now_ns
        stamp = LatencyStamp(
            kind=StampKind.LATENT,
            seq=self._seq,
            episode_id=1,
            instruction_id=1,
            capture_oldest_ns=now_ns,
            capture_newest_ns=now_ns,
            publish_ns=now_ns,
            hard_expire_ns=now_ns + _VALID_NS,
        )
        self._buffer.offer(Latent(tensors=tensors, stamp=stamp), now_ns)

    def step(self, tensors: Tensors | None = NO_TENSORS) -> StepResult:
        """One step of the fast loop; None: nothing new was seen."""
        if tensors is not None:
            self.see(tensors)
        result = self._executor.step(self.rig.now_ns, self.state, "go", 1)
        if result.segment is not None:
            write_segment(self.rig.segments, result.segment)
        self.results.append(result)
        ticks = round(1e-9 * self.period_ns * self.rig.config.rate_hz)
        self.rig.now_ns = self.rig.host.run_ticks(self.rig.now_ns, ticks)
        self.states.append(self.state)
        return result

    def run(self, steps: int) -> ArmWorld:
        for _ in range(steps):
            self.step()
        return self

    @property
    def positions(self) -> np.ndarray:
        """Where the hand was after every step (n, 3) [m]."""
        return np.array([state.T_base_ee[:3, 3] for state in self.states])
