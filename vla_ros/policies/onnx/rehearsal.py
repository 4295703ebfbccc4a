# SPDX-License-Identifier: Apache-2.0
"""Made-up observations and latents, to try a policy on before it sees a robot."""

from __future__ import annotations

import numpy as np

from vla_ros.chunking.strategies.base import (
    Guidance,
    InferenceRequest,
    PolicyCapabilities,
    Prefix,
)
from vla_ros.geometry import make_pose, rotation_about_z
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.base import Tensors
from vla_ros.policies.manifest.schema import ImageDetails, Manifest, StateDetails, TensorSpec
from vla_ros.types import (
    ActionChunk,
    CameraFrame,
    CameraIntrinsics,
    ControlMode,
    Latent,
    Observation,
    RobotState,
)

NOW_NS = 10_000_000_000
AGE_NS = 200_000_000
_JOINTS = 7
_CAMERA_PX = 224  # of the simulated cameras; larger where a network wants more


def made_up_observation(
    manifest: Manifest, instruction: str, rng: np.random.Generator | None = None
) -> Observation:
    """Return what the graphs could see: black images, or noise drawn from ``rng``.

    The robot is in front of its base, hand down, and does not move.
    """
    inputs = [tensor for graph in manifest.graphs.values() for tensor in graph.inputs]
    frames = {}
    for tensor in inputs:
        if isinstance(tensor.details, ImageDetails):
            for name in tensor.details.cameras:
                frames[name] = _frame(name, tensor, tensor.details, rng)
    joints = [t.details.n_joints for t in inputs if isinstance(t.details, StateDetails)]
    return Observation(
        state=_state(next((n for n in joints if n), _JOINTS), rng),
        instruction=instruction,
        instruction_id=1,
        episode_id=1,
        frames=frames,
    )


def made_up_latent(tensors: Tensors) -> Latent:
    """Return tensors of a slow half as a latent that was seen 0.2 s ago."""
    stamp = LatencyStamp(
        kind=StampKind.LATENT,
        episode_id=1,
        instruction_id=1,
        capture_oldest_ns=NOW_NS - AGE_NS,
        hard_expire_ns=NOW_NS + AGE_NS,
    )
    return Latent(tensors=tensors, stamp=stamp)


def guided_request(
    observation: Observation, rows: ActionChunk, capabilities: PolicyCapabilities
) -> InferenceRequest:
    """Return a request for rows that begin like ``rows`` and may then do otherwise."""
    n = capabilities.horizon
    return InferenceRequest(
        observation=observation,
        target0_ns=rows.target0_ns,
        dt_ns=rows.dt_ns,
        seq=1,
        prefix=Prefix(rows=rows, frozen_len=0, weights=np.linspace(1.0, 0.0, n)),
        guidance=Guidance.IDENTITY,
    )


def _frame(
    name: str, tensor: TensorSpec, details: ImageDetails, rng: np.random.Generator | None
) -> CameraFrame:
    top, bottom, left, right = (int(px) for px in details.crop_px)
    height, width = tensor.size[-3] + top + bottom, tensor.size[-2] + left + right
    if details.resize != "none":
        height, width = max(height, _CAMERA_PX), max(width, _CAMERA_PX)
    size = (height, width, 3)
    rgb = np.zeros(size, np.uint8) if rng is None else rng.integers(0, 256, size, np.uint8)
    return CameraFrame(
        name=name,
        rgb=rgb,
        depth_m=None,
        intrinsics=CameraIntrinsics(
            width=width, height=height, fx=width, fy=width, cx=width / 2, cy=height / 2
        ),
        T_base_camera=np.eye(4),
        capture_ns=NOW_NS - AGE_NS // 2,
    )


def _state(n_joints: int, rng: np.random.Generator | None) -> RobotState:
    offset = np.zeros(4) if rng is None else rng.uniform(-0.1, 0.1, 4)
    R = rotation_about_z(float(offset[3])) @ np.diag([1.0, -1.0, -1.0])
    T = make_pose(np.array([0.45, 0.0, 0.3]) + offset[:3], R)
    return RobotState(
        seq=1,
        tick_ns=NOW_NS,
        mode=ControlMode.TRACK,
        q=np.zeros(n_joints),
        dq=np.zeros(n_joints),
        tau=np.zeros(n_joints),
        T_base_ee=T,
        twist_base=np.zeros(6),
        T_base_ref=T,
        twist_ref_base=np.zeros(6),
        gripper_width_m=0.08,
        gripper_target_m=0.08,
    )
