# SPDX-License-Identifier: Apache-2.0
"""What the fast half knows of the robot: one vector, its fields in a fixed order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import RobotState

STATE_FIELDS = (
    *("ref_x_m", "ref_y_m", "ref_z_m", "ref_yaw_sin", "ref_yaw_cos"),
    *("ref_vx_m_s", "ref_vy_m_s", "ref_vz_m_s", "ref_yaw_rate_rad_s"),
    *("ee_x_m", "ee_y_m", "ee_z_m", "ee_yaw_sin", "ee_yaw_cos"),
    *("ee_vx_m_s", "ee_vy_m_s", "ee_vz_m_s"),
    *("gripper_width_m", "gripper_target_m", "gripper_rate_m_s"),
)
STATE_SIZE = len(STATE_FIELDS)
REF_XYZ, REF_YAW, REF_VELOCITY = slice(0, 3), slice(3, 5), slice(5, 8)
REF_YAW_RATE = 8
EE_XYZ = slice(9, 12)
GRIPPER_WIDTH, GRIPPER_TARGET, GRIPPER_RATE = 17, 18, 19

# Centre and size of each field over demonstrations; they bring the inputs of the network to order
# one. Fixed numbers of the task, not statistics, so that a graph does not depend on the data.
STATE_CENTRE = (
    *(0.45, 0.0, 0.15, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    *(0.45, 0.0, 0.15, 0.0, 1.0, 0.0, 0.0, 0.0, 0.05, 0.04, 0.0),
)
STATE_SCALE = (
    *(0.15, 0.2, 0.12, 0.5, 0.3, 0.2, 0.2, 0.2, 0.6),
    *(0.15, 0.2, 0.12, 0.5, 0.3, 0.2, 0.2, 0.2, 0.02, 0.035, 0.1),
)
_LONGEST_STEP_S = 0.1


def yaw_of(R: NDArray[np.float64]) -> float:
    """Return the direction of the x axis of ``R`` (3, 3) in the horizontal plane [rad]."""
    return math.atan2(float(R[1, 0]), float(R[0, 0]))


class StateVector:
    """Writes a robot state as a vector; remembers only the gripper's width of the call before.

    Thread-safety: one thread.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the width seen last: a new episode or instruction begins."""
        self._width_m, self._tick_ns = 0.0, 0

    def of(self, state: RobotState) -> NDArray[np.float32]:
        """Return the fields ``STATE_FIELDS`` (20,).

        The rate of the gripper is the difference quotient of its width since the call before; zero
        at the first call and if that was more than 0.1 s ago.
        """
        ref_yaw = yaw_of(state.T_base_ref[:3, :3])
        ee_yaw = yaw_of(state.T_base_ee[:3, :3])
        return np.array(
            [
                *state.T_base_ref[:3, 3],
                math.sin(ref_yaw),
                math.cos(ref_yaw),
                *state.twist_ref_base[:3],
                state.twist_ref_base[5],
                *state.T_base_ee[:3, 3],
                math.sin(ee_yaw),
                math.cos(ee_yaw),
                *state.twist_base[:3],
                state.gripper_width_m,
                state.gripper_target_m,
                self._rate(state),
            ],
            dtype=np.float32,
        )

    def _rate(self, state: RobotState) -> float:
        step_s = 1e-9 * (state.tick_ns - self._tick_ns)
        change_m = state.gripper_width_m - self._width_m
        known = self._tick_ns > 0 and 0.0 < step_s <= _LONGEST_STEP_S
        self._width_m, self._tick_ns = state.gripper_width_m, state.tick_ns
        return min(max(change_m / step_s, -0.5), 0.5) if known else 0.0
