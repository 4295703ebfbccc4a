# SPDX-License-Identifier: Apache-2.0
"""Small backends with six kinds of decoder, all real enough to be wrong in their own ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from strategy_samples import IDENTITY_QUAT, make_observation

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.geometry import quat_xyzw_to_matrix
from vla_ros.policies.base import FastPolicy, SlowPolicy, Tensors
from vla_ros.policies.conformance.subject import Samples, SplitBackend, Subject, WholeBackend
from vla_ros.policies.contract import (
    BackendContract,
    CheckedChunkPolicy,
    CheckedFastPolicy,
    CheckedSlowPolicy,
    TensorForm,
)
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.policies.motion import MotionLimits, plan_rows
from vla_ros.types import ActionChunk, CameraFrame, CameraIntrinsics, Latent, Observation

ROWS, DT_NS = 8, 33_000_000
SIDE_PX = 32
CAMERA = "scene_camera"
CONTRACT = BackendContract(
    cameras={CAMERA: (SIDE_PX, SIDE_PX)},
    latent={"goal": TensorForm((3,), "float32"), "step": TensorForm((1,), "int64")},
    chunk_rows=ROWS,
    chunk_dt_ns=DT_NS,
)


def observations(n: int = 3) -> tuple[Observation, ...]:
    """A red and a blue square on grey; the arm moves a little from one to the next."""
    found = []
    for k in range(n):
        rgb = np.full((SIDE_PX, SIDE_PX, 3), 120, dtype=np.uint8)
        rgb[4:10, 4 + k : 10 + k] = (220, 20, 20)
        rgb[20:26, 18:24] = (20, 40, 220)
        now_ns = 10_000_000_000 + k * DT_NS
        frame = CameraFrame(
            name=CAMERA,
            rgb=rgb,
            depth_m=None,
            intrinsics=CameraIntrinsics(
                width=SIDE_PX, height=SIDE_PX, fx=30.0, fy=30.0, cx=16.0, cy=16.0
            ),
            T_base_camera=np.eye(4),
            capture_ns=now_ns,
        )
        seen = make_observation(now_ns, x=0.4 + 0.002 * k)
        found.append(replace(seen, instruction="the red one", frames={CAMERA: frame}))
    return tuple(found)


SAMPLES = Samples(observations=observations(), other_instruction="the blue one")


class BlobSlow:
    """Finds what has the colour named; counts its calls, so that a reset can be seen."""

    name = "blob"
    max_age_s = 1.0

    def __init__(self) -> None:
        self._step = 0

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        self._step = 0

    def encode(self, observation: Observation) -> Tensors:
        self._step += 1
        goal = seen_goal(observation, observation.instruction)
        return {"goal": goal.astype(np.float32), "step": np.array([self._step])}


class DeafSlow(BlobSlow):
    """Looks for the red one whatever it is told."""

    def encode(self, observation: Observation) -> Tensors:
        return super().encode(replace(observation, instruction="the red one"))


def seen_goal(observation: Observation, words: str) -> np.ndarray:
    """Where in base the square is whose colour the words name; the middle without any."""
    rgb = observation.frames[CAMERA].rgb.astype(float)
    channel = 0 if "red" in words else 2 if "blue" in words else None
    place = np.array([SIDE_PX / 2, SIDE_PX / 2])
    if channel is not None:
        place = np.argwhere(rgb[:, :, channel] > rgb[:, :, 1] + 100).mean(axis=0)
    return np.array([0.3 + 0.01 * place[1], 0.01 * place[0] - 0.16, 0.1])


def rows_at(positions: np.ndarray, now_ns: int) -> ActionChunk:
    return ActionChunk(
        target0_ns=now_ns,
        dt_ns=DT_NS,
        positions=positions,
        quats_xyzw=np.tile(IDENTITY_QUAT, (ROWS, 1)),
        gripper_width_m=np.full(ROWS, 0.04),
    )


def start_and_goal(latent: Latent, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
    return observation.state.T_base_ee[:3, 3], np.asarray(latent.tensors["goal"], dtype=float)


class Decoder:
    """What all fast halves here share."""

    chunk_rows, chunk_dt_ns = ROWS, DT_NS

    @property
    def name(self) -> str:
        return type(self).__name__

    def reset(self) -> None:
        pass


class TokenDecoder(Decoder):
    """Autoregressive: each row's step is one of 256 tokens per axis, given the rows before."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        position, goal = start_and_goal(latent, observation)
        rows = [position]
        for _ in range(ROWS - 1):
            wanted = np.clip(0.2 * (goal - rows[-1]), -0.02, 0.02)
            tokens = np.rint((wanted + 0.02) / 0.04 * 255).astype(int)
            rows.append(rows[-1] + tokens / 255 * 0.04 - 0.02)
        return rows_at(np.array(rows), now_ns)


class ParallelDecoder(Decoder):
    """All rows in one pass."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        position, goal = start_and_goal(latent, observation)
        share = (1.0 - np.exp(-0.2 * np.arange(ROWS)))[:, None]
        return rows_at(position + share * (goal - position), now_ns)


class FlowDecoder(Decoder):
    """Denoised from noise; the noise follows from the number of the call."""

    def __init__(self) -> None:
        self._seq = 0

    def reset(self) -> None:
        self._seq = 0

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        self._seq += 1
        position, goal = start_and_goal(latent, observation)
        space = ModelSpace(position_m=0.05)
        means = np.zeros((1, ROWS, 7))
        share = (1.0 - np.exp(-0.2 * np.arange(ROWS)))[:, None]
        means[0, :, :3] = share * (goal - position) / space.position_m
        policy = FlowMixturePolicy(
            lambda request: Modes(np.ones(1), means),
            PolicyCapabilities(horizon=ROWS, dt_ns=DT_NS, is_guided=True),
            spread=Spread(first=0.01, last=0.02),
            space=space,
        )
        request = InferenceRequest(
            observation=observation, target0_ns=now_ns, dt_ns=DT_NS, seq=self._seq
        )
        return guided_denoise(policy, request)


class EnergyDecoder(Decoder):
    """Descends an energy until it is low enough: the number of steps varies."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def reset(self) -> None:
        self.steps = []

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        position, goal = start_and_goal(latent, observation)
        share = (1.0 - np.exp(-0.2 * np.arange(ROWS)))[:, None]
        minimum = position + share * (goal - position)
        rows, steps = np.tile(position, (ROWS, 1)), 0
        while (energy := ((rows - minimum) ** 2).sum()) > 1e-8 and steps < 500:
            rows = rows - 0.1 * 2.0 * (rows - minimum)
            steps += 1
        self.steps.append(steps)
        assert energy <= 1e-8
        return rows_at(rows, now_ns)


class KeyframeDecoder(Decoder):
    """One pose to be at; the rows in between are planned."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        _, goal = start_and_goal(latent, observation)
        state = observation.state
        R = quat_xyzw_to_matrix(IDENTITY_QUAT)
        positions, quats = plan_rows(
            state.T_base_ref, state.twist_ref_base, goal, R, ROWS, 1e-9 * DT_NS, MotionLimits()
        )
        return replace(rows_at(positions, now_ns), quats_xyzw=quats)


class ImageActionPolicy:
    """In one piece: rows, and the image that it expects after them."""

    name = "image_action"
    capabilities = PolicyCapabilities(horizon=ROWS, dt_ns=DT_NS)

    def __init__(self) -> None:
        self.expected_image: np.ndarray | None = None

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        self.expected_image = None

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        observation = request.observation
        position = observation.state.T_base_ee[:3, 3]
        goal = seen_goal(observation, observation.instruction)
        self.expected_image = np.roll(observation.frames[CAMERA].rgb, 1, axis=1)
        share = (1.0 - np.exp(-0.2 * np.arange(ROWS)))[:, None]
        return (rows_at(position + share * (goal - position), request.target0_ns),)


def split(
    make_fast: Callable[[], FastPolicy],
    make_slow: Callable[[], SlowPolicy] = BlobSlow,
    contract: BackendContract = CONTRACT,
) -> SplitBackend:
    """A backend behind its contract."""
    return SplitBackend(
        make_fast().name,
        lambda: CheckedSlowPolicy(make_slow(), contract),
        lambda: CheckedFastPolicy(make_fast(), contract),
    )


DECODERS: dict[str, Subject] = {
    "autoregressive token": split(TokenDecoder),
    "parallel chunk": split(ParallelDecoder),
    "flow": split(FlowDecoder),
    "energy": split(EnergyDecoder),
    "keyframe": split(KeyframeDecoder),
    "image and action": WholeBackend(
        "image_action", lambda: CheckedChunkPolicy(ImageActionPolicy(), CONTRACT)
    ),
}
