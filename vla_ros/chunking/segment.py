# SPDX-License-Identifier: Apache-2.0
"""From a chunk to a segment: twists, validity and provenance for the control host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ActionChunk, Latent, RobotState, Segment

Array = NDArray[np.float64]


def row_twists(positions: Array, quats_xyzw: Array, dt_s: float) -> Array:
    """Return the twist (H, 6) of each row by central differences, one-sided at both ends."""
    n = len(positions)
    twists = np.zeros((n, 6))
    if n < 2:
        return twists
    spins = rotations.difference(quats_xyzw[:-1], quats_xyzw[1:])
    steps = np.hstack([np.diff(positions, axis=0), spins]) / dt_s  # (H-1, 6)
    twists[0], twists[-1] = steps[0], steps[-1]
    twists[1:-1] = 0.5 * (steps[:-1] + steps[1:])
    return twists


def build_segment(
    chunk: ActionChunk, latent: Latent, state: RobotState, *, seq: int, epoch: int, now_ns: int
) -> Segment:
    """Return the rows as a segment that expires with the latent they came from."""
    return segment_of(chunk, stamp_chunk(chunk, latent, state, seq=seq, epoch=epoch, now_ns=now_ns))


def stamp_chunk(
    chunk: ActionChunk, latent: Latent, state: RobotState, *, seq: int, epoch: int, now_ns: int
) -> LatencyStamp:
    """Return the stamp of rows that a fast policy made of ``latent`` at ``now_ns``."""
    cause = latent.stamp
    return LatencyStamp(
        kind=StampKind.CHUNK,
        flags=cause.flags,
        seq=seq,
        parent_seq=cause.seq,
        anchor_seq=state.seq,
        episode_id=cause.episode_id,
        epoch=epoch,
        instruction_id=cause.instruction_id,
        instruction_hash=cause.instruction_hash,
        model_hash=cause.model_hash,
        schema_hash=cause.schema_hash,
        capture_oldest_ns=cause.capture_oldest_ns,
        capture_newest_ns=cause.capture_newest_ns,
        state_ns=state.tick_ns,
        publish_ns=now_ns,
        target0_ns=chunk.target0_ns,
        dt_ns=chunk.dt_ns,
        horizon=chunk.horizon,
        soft_expire_ns=cause.soft_expire_ns,
        hard_expire_ns=cause.hard_expire_ns,
        clock_err_ns=cause.clock_err_ns,
        clock_domain=cause.clock_domain,
        clock_id=cause.clock_id,
        confidence=cause.confidence,
    )


def segment_of(chunk: ActionChunk, stamp: LatencyStamp) -> Segment:
    """Return the rows as a segment that expires as its stamp says."""
    return Segment(
        target_ns=chunk.target0_ns + chunk.dt_ns * np.arange(chunk.horizon, dtype=np.int64),
        positions=chunk.positions,
        quats_xyzw=chunk.quats_xyzw,
        twists_base=row_twists(chunk.positions, chunk.quats_xyzw, 1e-9 * chunk.dt_ns),
        gripper_width_m=chunk.gripper_width_m,
        valid_until_ns=stamp.usable_until_ns,
        epoch=stamp.epoch,
        stamp=stamp,
    )


def position_at(chunk: ActionChunk, at_ns: int) -> Array:
    """Return where the rows say the end effector is at ``at_ns`` (3,) [m]; clamped to the rows."""
    index = (at_ns - chunk.target0_ns) / chunk.dt_ns
    low = int(np.clip(np.floor(index), 0, chunk.horizon - 1))
    high = min(low + 1, chunk.horizon - 1)
    fraction = float(np.clip(index - low, 0.0, 1.0))
    blended: Array = (1.0 - fraction) * chunk.positions[low] + fraction * chunk.positions[high]
    return blended
