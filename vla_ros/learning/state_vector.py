# SPDX-License-Identifier: Apache-2.0
"""What the fast half knows of the robot: one vector, its fields in a fixed order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.policies.state_vector import StateVector
from vla_ros.types import RobotState

# Name and number of values; poses and twists in base, "ref": where the arm is asked to be.
STATE_FIELDS = {
    "ref_position_m": 3,
    "ref_yaw_sin_cos": 2,
    "ref_twist": 6,
    "ee_position_m": 3,
    "ee_yaw_sin_cos": 2,
    "ee_twist": 6,
    "gripper_width_m": 1,
    "gripper_target_m": 1,
}
STATE_SIZE = sum(STATE_FIELDS.values())
REF_POSITION, REF_YAW_SIN, REF_YAW_COS = slice(0, 3), slice(3, 4), slice(4, 5)
REF_VELOCITY, REF_YAW_RATE = slice(5, 8), slice(10, 11)
EE_POSITION, GRIPPER_TARGET = slice(11, 14), 23

# Centre and size of each value over demonstrations; they bring the inputs of the network to order
# one. Fixed numbers of the task, not statistics, so that a graph does not depend on the data.
_POSE = ((0.45, 0.0, 0.15, 0.0, 1.0), (0.15, 0.2, 0.12, 0.5, 0.3))
_TWIST = ((0.0,) * 6, (0.2, 0.2, 0.2, 0.6, 0.6, 0.6))
STATE_CENTRE = (*_POSE[0], *_TWIST[0], *_POSE[0], *_TWIST[0], 0.05, 0.04)
STATE_SCALE = (*_POSE[1], *_TWIST[1], *_POSE[1], *_TWIST[1], 0.02, 0.035)


def yaw_of(R: NDArray[np.float64]) -> float:
    """Return the direction of the x axis of ``R`` (3, 3) in the horizontal plane [rad]."""
    return math.atan2(float(R[1, 0]), float(R[0, 0]))


def state_vector(state: RobotState) -> NDArray[np.float32]:
    """Return the fields ``STATE_FIELDS`` (24,) of a robot state."""
    out = np.empty(STATE_SIZE, dtype=np.float32)
    _VECTOR.write(state, out)
    return out


_VECTOR = StateVector(tuple(STATE_FIELDS))
