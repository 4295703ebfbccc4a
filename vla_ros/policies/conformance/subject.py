# SPDX-License-Identifier: Apache-2.0
"""A backend under test, in two halves or in one piece, asked in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.errors import ConfigError
from vla_ros.latency.codec import decode_tensors, encode_tensors
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import InferenceTimes, stamp_latent
from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy, Tensors
from vla_ros.policies.contract import BackendContract, TensorForm
from vla_ros.types import ActionChunk, Latent, Observation


def latent_of(observation: Observation, tensors: Tensors) -> Latent:
    """Return tensors as the latent that the fast half gets: encoded, sent, decoded, stamped."""
    return Latent(
        tensors=decode_tensors(encode_tensors(tensors)), stamp=stamp_of(observation, tensors)
    )


def stamp_of(observation: Observation, tensors: Tensors) -> LatencyStamp:
    """Return the stamp of a latent computed at once, good for ten seconds."""
    now_ns = observation.state.tick_ns
    times = InferenceTimes(request_ns=now_ns, start_ns=now_ns, end_ns=now_ns, publish_ns=now_ns)
    return stamp_latent(observation, tensors, times, seq=1, validity_ns=10_000_000_000)


class Session(Protocol):
    """New instances of a backend's halves."""

    def answer(self, observation: Observation) -> ActionChunk:
        """Return the rows for an observation."""

    def latent(self, observation: Observation) -> Tensors:
        """Return the latent of an observation; nothing for a policy in one piece."""

    def reset(self) -> None:
        """Begin a new episode."""

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the backend does not understand it."""


@dataclass(frozen=True)
class SplitBackend:
    """A backend in two halves; the functions return new, equal instances."""

    name: str
    make_slow: Callable[[], SlowPolicy]
    make_fast: Callable[[], FastPolicy]

    @property
    def time_grid(self) -> tuple[int, int]:
        """Rows of a chunk and time between them [ns]."""
        fast = self.make_fast()
        return fast.chunk_rows, fast.chunk_dt_ns

    def start(self) -> SplitSession:
        """Return new instances."""
        return SplitSession(self.make_slow(), self.make_fast())


@dataclass(frozen=True)
class SplitSession:
    """Both halves of a backend."""

    slow: SlowPolicy
    fast: FastPolicy

    def answer(self, observation: Observation) -> ActionChunk:
        """Return the rows for an observation, its latent sent as through a ring."""
        latent = latent_of(observation, self.latent(observation))
        state_only = replace(observation, frames={})  # the executor has no images
        return self.fast.decode(latent, state_only, observation.state.tick_ns)

    def latent(self, observation: Observation) -> Tensors:
        """Return the latent of an observation."""
        return self.slow.encode(observation)

    def reset(self) -> None:
        """Begin a new episode."""
        self.slow.reset()
        self.fast.reset()

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the backend does not understand it."""
        self.slow.check_instruction(instruction)


@dataclass(frozen=True)
class WholeBackend:
    """A backend in one piece; ``make`` returns new, equal instances."""

    name: str
    make: Callable[[], ChunkPolicy]

    @property
    def time_grid(self) -> tuple[int, int]:
        """Rows of a chunk and time between them [ns]."""
        able = self.make().capabilities
        return able.horizon, able.dt_ns

    def start(self) -> WholeSession:
        """Return a new instance."""
        return WholeSession(self.make())


@dataclass
class WholeSession:
    """A policy in one piece."""

    policy: ChunkPolicy
    seq: int = field(default=0)

    def answer(self, observation: Observation) -> ActionChunk:
        """Return the best rows for an observation."""
        self.seq += 1
        request = InferenceRequest(
            observation=observation,
            target0_ns=observation.state.tick_ns,
            dt_ns=self.policy.capabilities.dt_ns,
            seq=self.seq,
        )
        return self.policy.infer(request)[0]

    def latent(self, observation: Observation) -> Tensors:
        """Return nothing: there is no latent."""
        return {}

    def reset(self) -> None:
        """Begin a new episode."""
        self.seq = 0
        self.policy.reset()

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the backend does not understand it."""
        self.policy.check_instruction(instruction)


Subject = SplitBackend | WholeBackend


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a backend is tested on.

    Attributes:
        observations: valid ones of one episode, oldest first, with the images the backend needs;
            at least two.
        other_instruction: another one that it understands, which should change what it does.
        needs: cameras that it cannot do without; None: all that the observations have.
    """

    observations: tuple[Observation, ...]
    other_instruction: str
    needs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.observations) < 2:
            raise ConfigError(f"two observations at least, got {len(self.observations)}")

    @property
    def cameras(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of the images of the cameras needed [px]."""
        frames = self.observations[0].frames
        names = sorted(frames) if self.needs is None else self.needs
        return {name: (frames[name].rgb.shape[0], frames[name].rgb.shape[1]) for name in names}


def contract_of(subject: Subject, samples: Samples) -> BackendContract:
    """Return the contract that a backend keeps on a valid observation."""
    rows, dt_ns = subject.time_grid
    tensors = subject.start().latent(samples.observations[0])
    return BackendContract(
        cameras=samples.cameras,
        latent={name: TensorForm.of(np.asarray(value)) for name, value in tensors.items()},
        chunk_rows=rows,
        chunk_dt_ns=dt_ns,
    )
