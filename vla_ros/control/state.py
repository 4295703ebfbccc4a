# SPDX-License-Identifier: Apache-2.0
"""The state that the control host publishes, as value types."""

from __future__ import annotations

from typing import Any

import numpy as np

import vla_ros_core as core
from vla_ros.errors import StaleDataError
from vla_ros.geometry import pose_from_quat
from vla_ros.types import ControlMode, RobotState


def to_robot_state(record: dict[str, Any]) -> RobotState:
    """Return the value type of a record of ``vla_ros_core``."""
    return RobotState(
        seq=record["seq"],
        tick_ns=record["tick_ns"],
        mode=ControlMode(record["mode"]),
        q=np.array(record["q"]),
        dq=np.array(record["dq"]),
        tau=np.array(record["tau"]),
        T_base_ee=pose_from_quat(np.array(record["position"]), np.array(record["quat_xyzw"])),
        twist_base=np.array(record["twist"]),
        T_base_ref=pose_from_quat(
            np.array(record["ref_position"]), np.array(record["ref_quat_xyzw"])
        ),
        twist_ref_base=np.array(record["ref_twist"]),
        gripper_width_m=record["gripper_width_m"],
        gripper_target_m=record["gripper_target_m"],
    )


class StateReader:
    """Reads the state of one robot from shared memory, and finds it again after a restart.

    Thread-safety: one thread.
    """

    def __init__(self, shm_prefix: str) -> None:
        self._prefix = shm_prefix
        self._reader: core.StateReader | None = None

    def record(self) -> dict[str, Any] | None:
        """Return the newest record as a dictionary, or None while no control host publishes."""
        if self._reader is None:
            try:
                self._reader = core.StateReader(self._prefix)
            except core.Error:
                return None
        newest: dict[str, Any] | None = self._reader.latest()
        return newest

    def latest(self) -> RobotState | None:
        """Return the newest state, or None while no control host publishes."""
        record = self.record()
        return None if record is None else to_robot_state(record)

    def at(self, seq: int) -> RobotState | None:
        """Return the state of one tick (an anchor), or None if it is gone."""
        if self._reader is None and self.record() is None:
            return None
        assert self._reader is not None
        record = self._reader.at(seq)
        return None if record is None else to_robot_state(record)

    def fresh(self, now_ns: int, max_age_ns: int) -> RobotState:
        """Return a state at most ``max_age_ns`` old.

        Raises:
            StaleDataError: if there is none; the message gives the age.
        """
        state = self.latest()
        if state is None:
            raise StaleDataError("no control host publishes a state")
        age_ns = now_ns - state.tick_ns
        if age_ns > max_age_ns:
            raise StaleDataError(
                f"robot state is {age_ns / 1e6:.0f} ms old, at most "
                f"{max_age_ns / 1e6:.0f} ms allowed"
            )
        return state

    def reopen(self) -> None:
        """Look for the ring anew; for readers that saw it replaced."""
        self._reader = None
