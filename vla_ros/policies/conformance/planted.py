# SPDX-License-Identifier: Apache-2.0
"""Faults to plant: in observations, in latents, in rows. What has one must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.around import Around, AroundFast, answered
from vla_ros.policies.base import ChunkPolicy, FastPolicy, Tensors
from vla_ros.types import ActionChunk, CameraFrame, Latent, Observation

Corruption = Callable[[ActionChunk], ActionChunk]


def observation_faults(
    observation: Observation, cameras: tuple[str, ...]
) -> Iterator[tuple[str, Observation]]:
    """Give observations with one fault each: a camera missing, an image of half the size."""
    for name in cameras:
        others = {n: frame for n, frame in observation.frames.items() if n != name}
        yield f"missing camera {name}", replace(observation, frames=others)
        halved = {**observation.frames, name: _halved(observation.frames[name])}
        yield f"wrong size of {name}", replace(observation, frames=halved)


def state_faults(observation: Observation) -> Iterator[tuple[str, Observation]]:
    """Give observations whose robot state is not finite."""
    for name in ("T_base_ee", "T_base_ref"):
        value = getattr(observation.state, name).copy()
        value[0, 3] = np.nan
        yield (
            f"{name} not finite",
            replace(observation, state=replace(observation.state, **{name: value})),
        )


def latent_faults(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    """Give latents with one fault each: missing, of another shape, type, or not finite."""
    for name, value in tensors.items():
        yield f"missing tensor {name}", {n: v for n, v in tensors.items() if n != name}
        yield f"wrong shape of {name}", {**tensors, name: np.stack([value, value])}
        other = np.int32 if value.dtype.kind == "f" else np.float32
        yield f"wrong dtype of {name}", {**tensors, name: value.astype(other)}
        if value.dtype.kind == "f" and value.size:
            broken = value.copy()
            broken.flat[0] = np.nan
            yield f"not finite {name}", {**tensors, name: broken}


def _with_nan(chunk: ActionChunk) -> ActionChunk:
    positions = chunk.positions.copy()
    positions[-1, 0] = np.nan
    return replace(chunk, positions=positions)


def _one_row_more(chunk: ActionChunk) -> ActionChunk:
    return replace(
        chunk,
        positions=np.vstack([chunk.positions, chunk.positions[-1:]]),
        quats_xyzw=np.vstack([chunk.quats_xyzw, chunk.quats_xyzw[-1:]]),
        gripper_width_m=np.append(chunk.gripper_width_m, chunk.gripper_width_m[-1]),
    )


def _one_row(chunk: ActionChunk) -> ActionChunk:
    return replace(
        chunk,
        positions=chunk.positions[:1],
        quats_xyzw=chunk.quats_xyzw[:1],
        gripper_width_m=chunk.gripper_width_m[:1],
    )


def _other_type(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, positions=chunk.positions.astype(np.float32))


def _columns_short(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, positions=chunk.positions[:, :2])  # raises where it is made


def _not_unit(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, quats_xyzw=1.5 * chunk.quats_xyzw)


def _normalised(chunk: ActionChunk) -> ActionChunk:
    """Rows that were not brought back to metres: a jump of 100 m from row to row."""
    away = 100.0 * (-1.0) ** np.arange(chunk.horizon)
    return replace(chunk, positions=chunk.positions + away[:, None])


CHUNK_FAULTS: dict[str, Corruption] = {
    "NaN in a row": _with_nan,
    "a row too many": _one_row_more,
    "too few rows": _one_row,
    "wrong dtype of rows": _other_type,
    "wrong shape of rows": _columns_short,
    "other time between rows": lambda chunk: replace(chunk, dt_ns=chunk.dt_ns + 1),
    "rows of another hour": lambda c: replace(c, target0_ns=c.target0_ns + 3_600_000_000_000),
    "quaternions not of length 1": _not_unit,
    "rows not in metres": _normalised,
}


class CorruptFastPolicy(AroundFast):
    """A fast policy whose rows have a fault from the ``after``-th call on."""

    def __init__(self, policy: FastPolicy, corruption: Corruption, after: int = 0) -> None:
        super().__init__(policy)
        self._policy, self._corruption, self._left = policy, corruption, after
        self.name = policy.name

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return rows with the fault."""
        chunk = self._policy.decode(latent, observation, now_ns)
        self._left -= 1
        return chunk if self._left >= 0 else self._corruption(chunk)

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return chunks with the fault."""
        chunks = answered(self._policy, latent, request, now_ns)
        self._left -= 1
        return chunks if self._left >= 0 else tuple(self._corruption(c) for c in chunks)

    def reset(self) -> None:
        """Forget everything; the fault stays."""
        self._policy.reset()


class CorruptChunkPolicy(Around):
    """A policy in one piece whose rows have a fault from the ``after``-th call on."""

    def __init__(self, policy: ChunkPolicy, corruption: Corruption, after: int = 0) -> None:
        super().__init__(policy)
        self._policy, self._corruption, self._left = policy, corruption, after
        self.name = policy.name

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the policy does not understand it."""
        self._policy.check_instruction(instruction)

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks with the fault."""
        chunks = self._policy.infer(request)
        self._left -= 1
        return chunks if self._left >= 0 else tuple(self._corruption(c) for c in chunks)

    def reset(self) -> None:
        """Forget everything; the fault stays."""
        self._policy.reset()


def _halved(frame: CameraFrame) -> CameraFrame:
    rgb = frame.rgb[::2, ::2]
    size = replace(frame.intrinsics, height=rgb.shape[0], width=rgb.shape[1])
    depth_m = None if frame.depth_m is None else frame.depth_m[::2, ::2]
    return replace(frame, rgb=rgb, depth_m=depth_m, intrinsics=size)
