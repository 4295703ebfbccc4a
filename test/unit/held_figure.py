# SPDX-License-Identifier: Apache-2.0
"""A figure of eight by targets that are each held for 20 ms: smooth motion is compared with it."""

from __future__ import annotations

import numpy as np
import pytest
from free_arm import DT_S, FreeArm, figure_eight, rms_jerk, rmse, track

import vla_ros_core as core
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import to_law_config
from vla_ros.sim.plant import fr3_arm


def figure_law() -> core.LawConfig:
    """K = 600 N/m with D = 60 N·s/m, as the peer this is compared with."""
    settings = ControlConfig(
        stiffness_trans=600.0,
        stiffness_rot=30.0,
        damping_design="plain",
        damping_ratio=60.0 / (2.0 * np.sqrt(600.0)),
        error_clip_trans_m=0.1,
        error_clip_rot_rad=0.5,
        nullspace_stiffness=5.0,
    )
    return to_law_config(settings, fr3_arm())


@pytest.fixture(scope="module")
def held():
    """Return RMSE and rms jerk of the arm when every target is held for 20 ms."""
    arm = FreeArm(figure_law())
    start, quat = arm.pose()[0], arm.quat_xyzw()

    def reference(tick):
        return start + figure_eight((tick // 20) * 0.02)[0], quat, np.zeros(6)

    positions = track(arm, reference)
    return rmse(positions, wanted_positions(start)), rms_jerk(positions)


def wanted_positions(start):
    return start + np.array([figure_eight((k + 1) * DT_S)[0] for k in range(8000)])
