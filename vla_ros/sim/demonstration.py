# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the scripted expert in virtual time, with noise on what is executed.

The expert is the classical fast policy with the truth instead of a slow half. At every step it is
asked twice: with the truth, for what is recorded as right, and with errors, for what is done.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.segment import segment_of
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.geometry import rotation_about_z
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.classical_fast import ClassicalFastPolicy, Goal, PickPlaceConfig
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.policies.motion import MotionLimits
from vla_ros.sim.disturbance import Disturbance, DisturbanceConfig, Disturbed
from vla_ros.sim.ground_truth import Objects, read_objects, true_latent, with_belief_error
from vla_ros.sim.judge import Judge, JudgeVerdict
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.sim.virtual_cell import VirtualCell
from vla_ros.types import ActionChunk, CameraFrame, RobotState

CAMERAS = ("scene_camera", "wrist_camera")

# Other tolerances than the classical policy has for itself: a decision that hangs on millimetres
# or on a few degrees cannot be learned from pixels. Lifting begins when the fingers are nearly
# closed, not when they are still: the learner is told where they are, not how fast they move.
EXPERT = PickPlaceConfig(
    align_m=0.010, align_rad=0.3, settle_m=0.008, still_s=0.0, held_max_m=0.046
)


@dataclass(frozen=True, kw_only=True)
class DemonstrationConfig:
    """Rates and limits of a demonstration."""

    camera_hz: float = setting(10.0, "camera rate", unit="Hz", ge=1.0, le=60.0)
    chunk_hz: float = setting(30.0, "rate of the expert", unit="Hz", ge=1.0, le=200.0)
    max_duration_s: float = setting(20.0, "given up after", unit="s", ge=1.0, le=600.0)
    tail_s: float = setting(0.5, "recorded after success", unit="s", ge=0.0, le=60.0)
    control: ControlConfig = field(default_factory=ControlConfig)
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DemonstrationStep:
    """One step of the expert.

    Attributes:
        t_ns: time since the episode began [ns].
        right: what the expert would do; done: what was executed.
        goal: where ``right`` comes to rest.
    """

    t_ns: int
    state: RobotState
    objects: Objects
    goal: Goal
    right: ActionChunk
    done: ActionChunk


class DemonstrationLog(Protocol):
    """Whoever keeps what happens."""

    def add_frames(self, t_ns: int, frames: Sequence[CameraFrame], verdict: JudgeVerdict) -> None:
        """Take the images and what the judge says."""

    def add_step(self, step: DemonstrationStep) -> None:
        """Take a step of the expert."""


class Demonstrator:
    """Performs demonstrations one after the other; build once, perform many."""

    def __init__(self, config: DemonstrationConfig | None = None) -> None:
        self._config = config or DemonstrationConfig()
        self._cell = VirtualCell(self._config.control, CAMERAS, "demonstration")
        self._epoch = 0

    def close(self) -> None:
        """Free the OpenGL context and the shared memory."""
        self._cell.close()

    def perform(self, seed: int, goal: PickPlaceGoal, log: DemonstrationLog) -> JudgeVerdict:
        """Perform the episode of a seed; return the judge's verdict, which alone decides."""
        config, cell = self._config, self._cell
        cell.reset(apply_layout(cell.info, sample_layout(seed)))
        self._epoch += 1
        start_ns = cell.now_ns
        end_ns = start_ns + int(config.max_duration_s * NS_PER_S)
        camera_ns, chunk_ns = int(NS_PER_S / config.camera_hz), int(NS_PER_S / config.chunk_hz)
        next_camera_ns = next_chunk_ns = start_ns
        expert = _NoisyExpert(seed, goal, config)
        judge = Judge(cell.info, goal)
        verdict: JudgeVerdict | None = None
        while cell.now_ns < end_ns:
            now_ns = cell.now_ns
            if now_ns >= next_camera_ns:
                next_camera_ns += camera_ns
                seen = judge.update(cell.qpos, cell.qvel, now_ns)
                log.add_frames(now_ns - start_ns, list(cell.render().values()), seen)
                if seen.success and verdict is None:
                    verdict = seen
                    end_ns = min(end_ns, now_ns + int(config.tail_s * NS_PER_S))
            if now_ns >= next_chunk_ns:
                next_chunk_ns += chunk_ns
                step = expert.step(cell, now_ns - start_ns)
                log.add_step(step)
                self._execute(step.done)
            cell.advance(min(next_camera_ns, next_chunk_ns, end_ns))
        return verdict or JudgeVerdict(False, 0.0, "time is up")

    def _execute(self, chunk: ActionChunk) -> None:
        now_ns = self._cell.now_ns
        self._cell.renew_lease(self._epoch)
        stamp = LatencyStamp(
            kind=StampKind.CHUNK,
            episode_id=self._epoch,
            epoch=self._epoch,
            capture_oldest_ns=now_ns,
            publish_ns=now_ns,
            hard_expire_ns=now_ns + NS_PER_S,
        )
        self._cell.commit(segment_of(chunk, stamp))


class _NoisyExpert:
    """The expert of one episode: what is right and what it does."""

    def __init__(self, seed: int, goal: PickPlaceGoal, config: DemonstrationConfig) -> None:
        self._goal = goal
        self._noise = Disturbance(seed, config.disturbance, 1.0 / config.chunk_hz)
        self._right = ClassicalFastPolicy(EXPERT)
        scale = self._noise.speed_scale
        full = MotionLimits()
        slowed = MotionLimits(
            speed_m_s=scale * full.speed_m_s, speed_rad_s=scale * full.speed_rad_s
        )
        self._done = ClassicalFastPolicy(dataclasses.replace(EXPERT, limits=slowed))

    def step(self, cell: VirtualCell, t_ns: int) -> DemonstrationStep:
        state, now_ns = cell.state(), cell.now_ns
        objects = read_objects(cell.info, cell.qpos)
        truth = true_latent(cell.info, objects, self._goal, state, now_ns)
        goal = self._right.decide(truth, now_ns, state)
        noise = self._noise.step()
        believed = with_belief_error(truth, noise.pick_m, noise.place_m)
        done = _disturb(self._done.decide(believed, now_ns, state), noise)
        return DemonstrationStep(
            t_ns=t_ns,
            state=state,
            objects=objects,
            goal=goal,
            right=self._right.rows_to(goal, state),
            done=self._done.rows_to(done, state),
        )


def _disturb(goal: Goal, noise: Disturbed) -> Goal:
    gripper_m = goal.gripper_m
    if noise.flips_gripper:
        is_open = gripper_m > 0.5 * EXPERT.open_m
        gripper_m = EXPERT.closed_m if is_open else EXPERT.open_m
    position: NDArray[np.float64] = goal.position + noise.goal[:3]
    position[2] = max(float(position[2]), 0.012)  # fingers do not dig into the table
    R = rotation_about_z(math.remainder(float(noise.goal[3]), 2 * math.pi)) @ goal.R
    return dataclasses.replace(goal, position=position, R=R, gripper_m=gripper_m)
