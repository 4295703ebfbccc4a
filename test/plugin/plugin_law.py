# SPDX-License-Identifier: Apache-2.0
"""What the plugins on the mock arm must command: the law bound to Python."""

from __future__ import annotations

from typing import Any

import numpy as np

import vla_ros_core as core

JOINTS = [f"joint{i}" for i in range(1, 8)]
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
RATE_NM_S = 1000.0


def law_torque(urdf: str, **inputs: Any) -> np.ndarray:
    """Torque at rest of the law bound to Python, once it has settled."""
    config = core.LawConfig.for_joints(7)
    config.kind = inputs.pop("kind", core.LawKind.IMPEDANCE)
    config.torque_limit = [80.0] * 4 + [12.0] * 3
    config.torque_rate_limit = [RATE_NM_S] * 7
    config.posture = list(HOME)
    law = core.Law(config, core.RobotModel(urdf, JOINTS, "base", "tool", []))
    law.q[:] = HOME
    law.posture[:] = HOME
    for name, value in inputs.items():
        getattr(law, name)[:] = value
    for _ in range(2000):
        law.step(1e-3)
    return np.array(law.tau)


def goal(pose: Any, shift_m: tuple[float, float, float]) -> dict[str, Any]:
    """Inputs of the law for a displaced pose."""
    p, o = pose.pose.position, pose.pose.orientation
    position = np.array([p.x, p.y, p.z]) + shift_m
    return {"position": position, "quat_xyzw": [o.x, o.y, o.z, o.w]}
