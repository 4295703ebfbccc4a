# SPDX-License-Identifier: Apache-2.0
"""The robot state as one vector for a network: named fields in the order that a manifest lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.types import RobotState

Array = NDArray[np.float64]

PER_JOINT = 0  # width of a field that has one value per joint


@dataclass(frozen=True)
class StateField:
    """One field: its number of values, unit and meaning."""

    width: int
    unit: str
    description: str
    read: Callable[[RobotState], Array | Sequence[float]]


def _rotation_6d(T: Array) -> Array:
    return np.concatenate([T[:3, 0], T[:3, 1]])


def _yaw_sin_cos(T: Array) -> tuple[float, float]:
    yaw = math.atan2(float(T[1, 0]), float(T[0, 0]))
    return math.sin(yaw), math.cos(yaw)


def _tracking_error_m(s: RobotState) -> Array:
    error: Array = s.T_base_ref[:3, 3] - s.T_base_ee[:3, 3]
    return error


# Poses are in base. "ee": measured; "ref": where the arm is asked to be.
FIELDS: Mapping[str, StateField] = {
    "ee_position_m": StateField(3, "m", "measured position", lambda s: s.T_base_ee[:3, 3]),
    "ee_rotation_6d": StateField(
        6, "-", "first two columns of the measured rotation", lambda s: _rotation_6d(s.T_base_ee)
    ),
    "ee_quat_xyzw": StateField(
        4, "-", "measured rotation, w >= 0", lambda s: matrix_to_quat_xyzw(s.T_base_ee[:3, :3])
    ),
    "ee_yaw_sin_cos": StateField(2, "-", "measured yaw", lambda s: _yaw_sin_cos(s.T_base_ee)),
    "ee_twist": StateField(6, "m/s, rad/s", "measured, linear first", lambda s: s.twist_base),
    "ref_position_m": StateField(3, "m", "position asked for", lambda s: s.T_base_ref[:3, 3]),
    "ref_rotation_6d": StateField(
        6, "-", "first two columns of the rotation asked for", lambda s: _rotation_6d(s.T_base_ref)
    ),
    "ref_quat_xyzw": StateField(
        4, "-", "rotation asked for, w >= 0", lambda s: matrix_to_quat_xyzw(s.T_base_ref[:3, :3])
    ),
    "ref_yaw_sin_cos": StateField(2, "-", "yaw asked for", lambda s: _yaw_sin_cos(s.T_base_ref)),
    "ref_twist": StateField(6, "m/s, rad/s", "asked for, linear first", lambda s: s.twist_ref_base),
    "tracking_error_m": StateField(
        3,
        "m",
        "position asked for less measured",
        lambda s: s.T_base_ref[:3, 3] - s.T_base_ee[:3, 3],
    ),
    "gripper_width_m": StateField(1, "m", "measured opening", lambda s: [s.gripper_width_m]),
    "gripper_target_m": StateField(1, "m", "opening asked for", lambda s: [s.gripper_target_m]),
    "q_rad": StateField(PER_JOINT, "rad", "joint positions", lambda s: s.q),
    "dq_rad_s": StateField(PER_JOINT, "rad/s", "joint velocities", lambda s: s.dq),
    "tau_nm": StateField(PER_JOINT, "N·m", "torques sent to the joints", lambda s: s.tau),
}


class StateVector:
    """Writes named fields of the robot state one after the other.

    Args:
        names: of ``FIELDS``, in order.
        n_joints: joints of the robot, for the fields that have one value for each.

    Raises:
        ConfigError: if a field is unknown, given twice, or needs ``n_joints``.
    """

    def __init__(self, names: Sequence[str], n_joints: int = 0) -> None:
        unknown = [name for name in names if name not in FIELDS]
        if unknown:
            raise ConfigError(f"unknown state field {unknown[0]!r}; known: {', '.join(FIELDS)}")
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"state fields must be different names, got {list(names)}")
        self._fields = [(name, FIELDS[name]) for name in names]
        self._n_joints = n_joints
        needs_joints = [name for name, f in self._fields if f.width == PER_JOINT]
        if needs_joints and n_joints < 1:
            raise ConfigError(f"state field {needs_joints[0]} needs n_joints, the robot's joints")
        self.width = sum(f.width or n_joints for _, f in self._fields)

    def write(self, state: RobotState, out: NDArray[np.float32]) -> None:
        """Write the fields into ``out`` (width,).

        Raises:
            PolicyError: if the robot has another number of joints, or a value is not finite.
        """
        at = 0
        for name, field in self._fields:
            width = field.width or self._n_joints
            values = field.read(state)
            if len(values) != width:
                raise PolicyError(
                    f"{name}: the policy knows robots of {width} joints, this one has {len(values)}"
                )
            out[at : at + width] = values
            at += width
        if not np.isfinite(out).all():
            raise PolicyError("the robot state is not finite")
