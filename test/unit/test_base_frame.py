# SPDX-License-Identifier: Apache-2.0
"""The choice of base frame changes what numbers mean, never what the arm does."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from two_arms import START_Q, arm, two_arm_urdf

import vla_ros_core as core
from vla_ros.control.arm import build_model
from vla_ros.control.law_settings import LawSettings, to_law_config


def torques(base: str, target: pin.SE3, twist: np.ndarray, wrench: np.ndarray) -> np.ndarray:
    """Return the law's torque for a target, twist and wrench given in the root frame."""
    description = arm("left", base)
    settings = LawSettings(torque_rate_limit_nm_s=1e5)
    law = core.Law(to_law_config(settings, description), build_model(description))
    model = pin.buildModelFromXML(two_arm_urdf())
    data = model.createData()
    pin.framesForwardKinematics(model, data, np.zeros(model.nq))
    frame = data.oMf[model.getFrameId(base)]
    R = frame.rotation.T
    placed = frame.inverse() * target
    law.q[:], law.dq[:] = START_Q, np.linspace(-0.3, 0.3, 7)
    law.position[:] = placed.translation
    law.quat_xyzw[:] = pin.Quaternion(placed.rotation).coeffs()
    law.twist[:] = np.concatenate([R @ twist[:3], R @ twist[3:]])
    law.wrench[:] = np.concatenate([R @ wrench[:3], R @ wrench[3:]])
    for _ in range(300):  # past the torque rate limit
        law.step(1e-3)
    return np.array(law.tau)


@pytest.mark.parametrize("seed", range(5))
def test_torque_does_not_depend_on_the_base_frame(seed: int) -> None:
    random = np.random.default_rng(seed)
    model = pin.buildModelFromXML(two_arm_urdf())
    data = model.createData()
    q = np.zeros(model.nq)
    q[:7] = START_Q
    pin.framesForwardKinematics(model, data, q)
    tool = data.oMf[model.getFrameId("left_tool")]
    # Near enough for the error clip, which has axes of its own, to leave it alone.
    target = pin.SE3(
        pin.exp3(random.uniform(-0.1, 0.1, 3)) @ tool.rotation,
        tool.translation + random.uniform(-0.02, 0.02, 3),
    )
    twist, wrench = random.normal(size=(2, 6))
    of_root = torques("stand", target, twist, wrench)
    of_torso = torques("torso", target, twist, wrench)
    assert np.abs(of_root).max() > 1.0
    np.testing.assert_allclose(of_torso, of_root, atol=1e-9)
