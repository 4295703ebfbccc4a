# SPDX-License-Identifier: Apache-2.0
"""What the runtime asks of a policy: a slow half, a fast half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
