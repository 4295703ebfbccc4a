# SPDX-License-Identifier: Apache-2.0
"""What the runtime asks of a policy: a slow half and a fast half, or chunks in one piece.

Whatever more a policy can do is a protocol of its own, which it may have or not: the runtime asks
with ``isinstance`` and gets along without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

Tensors = Mapping[str, NDArray[np.generic]]


class SlowPolicy(Protocol):
    """The half that reads images and words, 1-10 Hz. It stamps nothing; the runtime does."""

    name: str
    max_age_s: float

    def check_instruction(self, instruction: str) -> None:
        """Check that the instruction is understood.

        Raises:
            InstructionError: if it is not; the message names what is allowed.
        """

    def encode(self, observation: Observation) -> Tensors:
        """Return the named tensors of the latent."""

    def reset(self) -> None:
        """Forget everything seen: a new episode or instruction begins."""


class FastPolicy(Protocol):
    """The half that turns the newest usable latent and robot state into rows, 30-100 Hz."""

    name: str
    chunk_rows: int
    chunk_dt_ns: int

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return a chunk whose row times start at or after ``now_ns``."""

    def reset(self) -> None:
        """Forget everything: a new episode or instruction begins."""


class ChunkPolicy(Protocol):
    """A policy in one piece: images, words and state in, rows out, however long it takes."""

    name: str
    capabilities: PolicyCapabilities

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, the best one first."""

    def reset(self) -> None:
        """Forget everything: a new episode or instruction begins."""


@runtime_checkable
class InstructionCheck(Protocol):
    """Knows which instructions a policy understands, and needs none of its weights for it."""

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""


@runtime_checkable
class Capable(Protocol):
    """A policy that says what it can do."""

    capabilities: PolicyCapabilities


@runtime_checkable
class LooksAtCameras(Protocol):
    """A policy that says which cameras it needs."""

    cameras: tuple[str, ...]


@runtime_checkable
class LatentContract(Protocol):
    """A half of a split policy that says which latents it writes, or accepts.

    Attributes:
        latent_schema_hash: of names, types, shapes and normalisation of the latent's tensors.
        model_hash: of the weights of both halves, which were trained together.
        latent_bytes: size of the values.
    """

    latent_schema_hash: int
    model_hash: int
    latent_bytes: int


@runtime_checkable
class TimesItself(Protocol):
    """A policy that says where the time of its last call went; None before the first."""

    @property
    def last_timing(self) -> CallTiming | None:
        """The parts of the last call."""


@runtime_checkable
class ReusesFeatures(Protocol):
    """A slow policy that keeps what it made of earlier images."""

    @property
    def has_reused(self) -> bool:
        """Whether some of that is in its last latent."""


@runtime_checkable
class AnswersRequests(Protocol):
    """A fast policy that is told all that was asked: prefix, guidance, candidates."""

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, the best one first; see ``FastPolicy.decode``."""
