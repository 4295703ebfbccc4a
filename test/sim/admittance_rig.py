# SPDX-License-Identifier: Apache-2.0
"""What the tests of the admittance law share: arms, settings, an independent model."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from arm_simulation import ur5_arm
from law_reference import pinocchio_model

import vla_ros_core as core
from vla_ros.control.host import ArmDescription, build_model
from vla_ros.sim.plant import fr3_arm

RATES_HZ = (125, 500, 1000)
ARMS = ("fr3", "ur5")
OK, VIRTUAL_LIMITED, JOINT_LIMITED, STALE_WRENCH, BAD_WRENCH, BAD_REFERENCE, NOT_FINITE = range(7)


def describe(name: str) -> ArmDescription:
    return fr3_arm() if name == "fr3" else ur5_arm()


def settings(arm: ArmDescription, **changes: dict[str, object]) -> core.AdmittanceConfig:
    """Return the defaults; ``body=dict(mass=...)`` changes fields of a part."""
    config = core.AdmittanceConfig.for_joints(len(arm.joint_names))
    for part_name, fields in ({"joints": {}} | changes).items():
        part = getattr(config, part_name)
        if part_name == "joints":
            part.posture = list(arm.posture)
        for name, value in fields.items():
            setattr(part, name, value)
        setattr(config, part_name, part)
    return config


class Rig:
    """An admittance law with a fresh wrench, at rest at the arm's posture."""

    def __init__(self, name: str, rate_hz: int, **changes: dict[str, object]) -> None:
        self.arm = describe(name)
        self.dt_s = 1.0 / rate_hz
        self.config = settings(self.arm, **changes)
        self.law = core.AdmittanceLaw(self.config, build_model(self.arm))
        self.law.wrench_age_s = 0.0
        self.model = pinocchio_model(self.arm)
        self.frame = self.model.getFrameId(self.arm.ee_frame)
        self.base = self.model.getFrameId(self.arm.base_frame)

    def run(self, duration_s: float) -> set[int]:
        return {self.law.step(self.dt_s) for _ in range(round(duration_s / self.dt_s))}

    def placement(self, q: np.ndarray | None = None) -> pin.SE3:
        """Return the pose of the end effector in base for the commanded joints."""
        data = self.model.createData()
        pin.framesForwardKinematics(self.model, data, self.law.q if q is None else q)
        return data.oMf[self.base].actInv(data.oMf[self.frame])
