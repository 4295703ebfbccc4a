# SPDX-License-Identifier: Apache-2.0
"""Recorded terms of hooks: where every command came from; needs no ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.clock import NS_PER_S
from vla_ros.errors import RecordingError, ShapeError
from vla_ros.policies.hooks.log import chunk_of, from_arrays
from vla_ros.policies.hooks.terms import HookedRows
from vla_ros.recording.reader import EpisodeBag
from vla_ros.types import ActionChunk

TOPIC = "hook_terms"
_ARRAYS = ("base", "steering", "residual", "limit")


@dataclass(frozen=True, kw_only=True)
class RecordedTerms:
    """One step.

    Attributes:
        stamp_ns: ROS time of the step, that of the ``action_chunk`` made of it.
        candidate: of a policy that answers with several, best first.
        rows: base and terms; ``rows.command`` is computed from them.
        command: as it was recorded.
    """

    stamp_ns: int
    candidate: int
    rows: HookedRows
    command: ActionChunk


def read_hook_terms(bag: EpisodeBag) -> list[RecordedTerms]:
    """Return all there are, in order; none if no hooks ran.

    Raises:
        RecordingError: if a message makes no sense.
    """
    found = []
    for _, _, m in bag.messages([TOPIC]):
        stamp_ns = m.header.stamp.sec * NS_PER_S + m.header.stamp.nanosec
        arrays = {name: np.asarray(getattr(m, name), dtype=np.float64) for name in _ARRAYS}
        try:
            rows = from_arrays(arrays, m.target0_ns, m.dt_ns)
            command = chunk_of(np.asarray(m.command), m.target0_ns, m.dt_ns)
        except ShapeError as error:
            raise RecordingError(f"{bag.path}: {TOPIC} at {stamp_ns} ns: {error}") from error
        found.append(
            RecordedTerms(stamp_ns=stamp_ns, candidate=m.candidate, rows=rows, command=command)
        )
    return found
