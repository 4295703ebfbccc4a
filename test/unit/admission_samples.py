# SPDX-License-Identifier: Apache-2.0
"""A chunk as it arrives, the context that it belongs to, and the state of the arm then."""

from __future__ import annotations

import dataclasses

import numpy as np

from vla_ros.chunking.admission import StampedChunk
from vla_ros.latency.admission import BufferContext
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ActionChunk, ControlMode, RobotState

MS = 1_000_000
DT_NS = 33 * MS
NOW = 10_000 * MS
CONTEXT = BufferContext(
    episode_id=1, instruction_id=2, epoch=3, schema_hash=4, model_hash=5, clock_id=b"a" * 16
)


def chunk(capture_ms=100, seq=1, rows=None, rows_n=8, **fields) -> StampedChunk:
    """A chunk that was captured ``capture_ms`` before NOW; row 0 is for the time of capture."""
    capture_ns = NOW - capture_ms * MS
    actions = ActionChunk(
        target0_ns=capture_ns,
        dt_ns=DT_NS,
        positions=np.zeros((rows_n, 3)),
        quats_xyzw=np.tile([0.0, 0.0, 0.0, 1.0], (rows_n, 1)),
        gripper_width_m=np.zeros(rows_n),
    )
    values = {
        "kind": StampKind.CHUNK,
        "seq": seq,
        "episode_id": 1,
        "instruction_id": 2,
        "epoch": 3,
        "schema_hash": 4,
        "model_hash": 5,
        "clock_id": b"a" * 16,
        "capture_oldest_ns": capture_ns,
        "capture_newest_ns": capture_ns,
        "publish_ns": capture_ns + 50 * MS,
        "hard_expire_ns": capture_ns + 1000 * MS,
    }
    stamp = LatencyStamp(**(values | fields))
    return StampedChunk(chunk=dataclasses.replace(actions, **(rows or {})), stamp=stamp)


def state(speed_m_s=0.3, turn_rad_s=0.0) -> RobotState:
    return RobotState(
        seq=1,
        tick_ns=NOW,
        mode=ControlMode.TRACK,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=np.eye(4),
        twist_base=np.zeros(6),
        T_base_ref=np.eye(4),
        twist_ref_base=np.array([speed_m_s, 0, 0, 0, turn_rad_s, 0]),
        gripper_width_m=0.0,
        gripper_target_m=0.0,
    )
