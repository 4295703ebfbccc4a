# SPDX-License-Identifier: Apache-2.0
"""Value types that cross the boundaries of vla_ros. Frozen, validated once where data enters.

Shapes: ``n`` joints, ``H`` rows of a chunk. Poses are ``T_base_x`` (4, 4) in the robot's base
frame. Twists are (6,), linear first [m/s, rad/s]. Instants are integers of CLOCK_MONOTONIC [ns].
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ShapeError

if TYPE_CHECKING:
    from vla_ros.latency.stamp import LatencyStamp

Array = NDArray[np.float64]


class ControlMode(enum.IntEnum):
    """What the control host does with the arm; same values as ``vla_ros_core.Mode``."""

    IDLE = 0  # started, nothing received yet: compliant hold at the start pose
    TRACK = 1  # executing rows of a valid segment
    BRAKE = 2  # rows ran out or expired: reference decelerates to rest
    HOLD = 3  # at rest, compliant
    STOPPED = 4  # stop requested: compliant hold until resumed
    FAULT = 5  # own computation failed repeatedly: damping and gravity only


@dataclass(frozen=True, kw_only=True)
class CameraIntrinsics:
    """Pinhole camera without distortion. ``fx fy cx cy`` [px]; pixel centres at integers + 0.5."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True, kw_only=True)
class CameraFrame:
    """One exposure of one camera.

    Attributes:
        rgb: (height, width, 3) uint8.
        depth_m: (height, width) float32 distance along the optical axis [m], 0 where unknown;
            or None.
        T_base_camera: (4, 4) pose of the optical frame (REP 103: z forward, x right, y down).
        capture_ns: exposure time [ns], never the arrival time.
    """

    name: str
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None
    intrinsics: CameraIntrinsics
    T_base_camera: Array
    capture_ns: int

    def __post_init__(self) -> None:
        shape = (self.intrinsics.height, self.intrinsics.width)
        if self.rgb.shape != (*shape, 3) or self.rgb.dtype != np.uint8:
            raise ShapeError(
                f"{self.name}: rgb must be uint8 {(*shape, 3)}, "
                f"got {self.rgb.dtype} {self.rgb.shape}"
            )
        if self.depth_m is not None and self.depth_m.shape != shape:
            raise ShapeError(
                f"{self.name}: depth_m must have shape {shape}, got {self.depth_m.shape}"
            )
        if self.T_base_camera.shape != (4, 4):
            raise ShapeError(
                f"{self.name}: T_base_camera must be (4, 4), got {self.T_base_camera.shape}"
            )


@dataclass(frozen=True, kw_only=True)
class RobotState:
    """What the control host measured and what it is asking for, at one tick.

    Attributes:
        seq: tick number; ``anchor_seq`` of stamps refers to it.
        tick_ns: time of the tick [ns].
        q, dq, tau: (n,) joint positions [rad], velocities [rad/s], commanded torques [N·m].
        T_base_ee, twist_base: measured end-effector pose and twist.
        T_base_ref, twist_ref_base: the reference now in force (where the arm is asked to be).
        gripper_width_m, gripper_target_m: opening between the fingers, measured and asked for [m].
    """

    seq: int
    tick_ns: int
    mode: ControlMode
    q: Array
    dq: Array
    tau: Array
    T_base_ee: Array
    twist_base: Array
    T_base_ref: Array
    twist_ref_base: Array
    gripper_width_m: float
    gripper_target_m: float


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy may see. A missing camera is absent from ``frames``, never a black image."""

    state: RobotState
    instruction: str
    instruction_id: int
    episode_id: int
    frames: Mapping[str, CameraFrame] = field(default_factory=dict)

    @property
    def capture_oldest_ns(self) -> int:
        """Exposure time of the oldest image [ns]; the state's time when there is no image."""
        return min((f.capture_ns for f in self.frames.values()), default=self.state.tick_ns)

    @property
    def capture_newest_ns(self) -> int:
        """Exposure time of the newest image [ns]; the state's time when there is no image."""
        return max((f.capture_ns for f in self.frames.values()), default=self.state.tick_ns)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Output of a slow policy: named tensors and the stamp that says how old their causes are."""

    tensors: Mapping[str, NDArray[np.generic]]
    stamp: LatencyStamp


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """Rows of end-effector targets, row ``i`` meant for ``target0_ns + i * dt_ns``.

    Attributes:
        positions: (H, 3) [m] in base. quats_xyzw: (H, 4) unit. gripper_width_m: (H,) [m].
        phase: short name of what the policy is doing; for people, never for control.
        done: the policy believes that the instruction is fulfilled.
    """

    target0_ns: int
    dt_ns: int
    positions: Array
    quats_xyzw: Array
    gripper_width_m: Array
    phase: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        n = len(self.positions)
        for name, value, shape in (
            ("positions", self.positions, (n, 3)),
            ("quats_xyzw", self.quats_xyzw, (n, 4)),
            ("gripper_width_m", self.gripper_width_m, (n,)),
        ):
            if value.shape != shape:
                raise ShapeError(f"{name} must have shape {shape}, got {value.shape}")
        if n < 1 or self.dt_ns <= 0:
            raise ShapeError(f"a chunk needs rows and dt_ns > 0, got {n} rows, dt_ns {self.dt_ns}")

    @property
    def horizon(self) -> int:
        """Number of rows H."""
        return len(self.positions)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows that may be executed: what crosses from Python to the control host.

    Attributes:
        target_ns: (H,) int64, strictly increasing. twists_base: (H, 6) feed-forward.
        valid_until_ns: hard expiry; no row is executed after it.
        epoch: authority epoch under which the rows were made.
    """

    target_ns: NDArray[np.int64]
    positions: Array
    quats_xyzw: Array
    twists_base: Array
    gripper_width_m: Array
    valid_until_ns: int
    epoch: int
    stamp: LatencyStamp
