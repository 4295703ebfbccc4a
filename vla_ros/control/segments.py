# SPDX-License-Identifier: Apache-2.0
"""Hands segments to the control host."""

from __future__ import annotations

import vla_ros_core as core
from vla_ros.types import Segment


def write_segment(writer: core.SegmentWriter, segment: Segment) -> int:
    """Write a segment into its source's ring and return its number there.

    Raises:
        vla_ros_core.Error: if the arrays do not fit each other or there are more than 64 rows.
    """
    number: int = writer.write(
        segment.stamp.to_bytes(),
        segment.target_ns,
        segment.positions,
        segment.quats_xyzw,
        segment.twists_base,
        segment.gripper_width_m,
        segment.valid_until_ns,
        segment.epoch,
        segment.stamp.episode_id,
    )
    return number
