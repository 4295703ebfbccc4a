# SPDX-License-Identifier: Apache-2.0
"""A control host on the bare arm of any robot, in virtual time, with MuJoCo as the plant."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from host_rig import HostRig

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.control.host import build_host
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import RobotConfig
from vla_ros.geometry import quat_xyzw_to_matrix
from vla_ros.sim.arms import END_EFFECTOR
from vla_ros.sim.plant import build_arm_plant
from vla_ros.sim.prepare import prepare_arm

# Two rigs of one test must not share their memory.
_numbers = itertools.count()


class RobotRig(HostRig):
    """Starts at home and at rest; ``policy`` has no lease yet."""

    def __init__(self, robot: RobotConfig, folder: Path, rate_hz: float | None = None) -> None:
        self.robot = robot
        self.config = replace(robot.control, rate_hz=rate_hz or robot.control.rate_hz)
        self.prefix = f"vla_ros.rig{os.getpid()}n{next(_numbers)}"
        # A folder per rate: whoever asks again finds the compiled model.
        place = folder / f"{self.config.rate_hz:g}"
        model = place / f"{robot.name}.mjb"
        if not model.is_file():
            model = prepare_arm(place, robot, self.config.rate_hz).model
        self.plant = build_arm_plant(model, robot.joint_names, "")
        self.plant.request_reset(list(robot.home_q))
        self.arm = arm_of(robot)
        self.host = build_host(self.config, self.arm, self.plant, self.prefix)
        self.lease = core.LeaseWriter(self.prefix)
        self.segments = core.SegmentWriter(self.prefix, "policy")
        self.now_ns = NS_PER_S
        self.states: list[dict] = []
        self.run(2.0 / self.config.rate_hz)

    def push(self, force_base) -> None:
        """Push at the end effector with a force (3,) [N] or wrench (6,) along base axes."""
        wrench = np.zeros(6)
        wrench[: len(force_base)] = force_base
        # All bases here have the axes of the world: pelvis and torso differ by a translation.
        self.plant.set_external_force(END_EFFECTOR, list(wrench))

    def check_torques(self) -> None:
        """Assert that torque stayed finite, within its limit and within its rate all the time."""
        taus = np.array([s["tau"] for s in self.states])
        limit = np.array(self.robot.limits.tau_max_nm)
        assert np.isfinite(taus).all()
        assert (np.abs(taus) <= limit + 1e-9).all()
        step = self.config.torque_rate_limit_nm_s / self.config.rate_hz
        assert np.abs(np.diff(taus, axis=0)).max() <= step + 1e-9


def position(state: dict) -> np.ndarray:
    """Position of the end effector (3,) [m], base."""
    return np.array(state["position"])


def angle_between(a: dict, b: dict) -> float:
    """Angle between the orientations of two states [rad]."""
    turn = quat_xyzw_to_matrix(np.array(a["quat_xyzw"])).T @ quat_xyzw_to_matrix(
        np.array(b["quat_xyzw"])
    )
    return float(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
