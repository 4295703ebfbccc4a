# SPDX-License-Identifier: Apache-2.0
"""The plugins without a controller manager: same torque as the law in Python, no allocation."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("vla_ros_msgs", reason="needs vla_ros_msgs")

import mock_robot
import pinocchio as pin
from plugin_law import RATE_NM_S

import vla_ros_core as core

RIG = mock_robot.find("lib/vla_ros_controllers/plugin_rig")
JOINTS = [f"joint{i}" for i in range(1, 8)]
TICKS = 2000
PERIOD_S = 1e-3

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        RIG is None,
        reason="needs ros2_control and vla_ros_controllers built with BUILD_TESTING: "
        f"{mock_robot.PREFIX_VARIABLE}",
    ),
]


def run_rig(kind: str, name: str, *lost: int) -> list[dict[str, Any]]:
    """Return what the rig measured in every tick, and its summary.

    lost: first tick without a usable measurement, and how many there are.
    """
    done = subprocess.run(
        [
            *(str(RIG), f"vla_ros_controllers/{kind}Controller", name),
            *(str(mock_robot.CONFIG / "mock_arm.urdf"), str(TICKS), *map(str, lost)),
            *("--ros-args", "--params-file", str(mock_robot.CONFIG / "mock.yaml")),
        ],
        env=mock_robot.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def start_pose(urdf: str, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and quaternion (x, y, z, w) of the tool, by Pinocchio's Python module."""
    model = pin.buildModelFromXML(urdf)
    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    tool = data.oMf[model.getFrameId("tool")]
    return tool.translation, pin.Quaternion(tool.rotation).coeffs()


@pytest.mark.parametrize(
    ("kind", "name", "law_kind"),
    [
        ("CartesianImpedance", "cartesian_impedance", "IMPEDANCE"),
        ("JointImpedance", "joint_impedance", "JOINT"),
    ],
)
def test_torque_of_a_moving_arm_is_that_of_the_law_in_python(
    kind: str, name: str, law_kind: str
) -> None:
    *ticks, _ = run_rig(kind, name)
    urdf = (mock_robot.CONFIG / "mock_arm.urdf").read_text(encoding="utf-8")
    q0 = np.array(ticks[0]["q"])
    config = core.LawConfig.for_joints(7)
    config.kind = core.LawKind[law_kind]
    config.torque_limit = [80.0] * 4 + [12.0] * 3
    config.torque_rate_limit = [1000.0] * 7
    config.posture = list(q0)
    law = core.Law(config, core.RobotModel(urdf, JOINTS, "base", "tool", []))
    law.posture[:] = q0
    law.position[:], law.quat_xyzw[:] = start_pose(urdf, q0)
    worst, largest = 0.0, 0.0
    for tick in ticks:
        law.q[:], law.dq[:] = tick["q"], tick["dq"]
        law.step(PERIOD_S)
        worst = max(worst, np.abs(law.tau - tick["command"]).max())
        largest = max(largest, np.abs(law.tau).max())
    assert largest > 10
    assert worst < 1e-9


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("CartesianImpedance", "cartesian_impedance"),
        ("JointImpedance", "joint_impedance"),
        ("Admittance", "admittance"),
    ],
)
def test_update_allocates_nothing(kind: str, name: str, record_property: Any) -> None:
    summary = run_rig(kind, name)[-1]
    record_property("update_us_p50", summary["p50_us"])
    record_property("update_us_p99", summary["p99_us"])
    assert summary["before"] > 0
    assert summary["allocations"] == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [("CartesianImpedance", "cartesian_impedance"), ("JointImpedance", "joint_impedance")],
)
@pytest.mark.parametrize("count", [1, 4, 5, 20])
def test_lost_measurement_repeats_the_torque_and_five_in_a_row_leave_gravity_and_damping(
    kind: str, name: str, count: int
) -> None:
    first = TICKS // 2
    *ticks, summary = run_rig(kind, name, first, count)
    command = np.array([tick["command"] for tick in ticks])
    assert np.isnan([tick["q"][2] for tick in ticks]).sum() == count
    assert np.isfinite(command).all()
    assert summary["allocations"] == 0
    assert np.abs(np.diff(command, axis=0)).max() <= RATE_NM_S * PERIOD_S + 1e-9
    assert (command[first : first + min(count, 5)] == command[first - 1]).all()
    last = ticks[-1]
    if count < 5:
        *undisturbed, _ = run_rig(kind, name)
        np.testing.assert_allclose(command[-1], undisturbed[-1]["command"], atol=1e-9)
        return
    urdf = (mock_robot.CONFIG / "mock_arm.urdf").read_text(encoding="utf-8")
    model = core.RobotModel(urdf, JOINTS, "base", "tool", [])
    model.update(last["q"], last["dq"])
    damping = core.LawConfig.for_joints(7).fault_damping * np.array(last["dq"])
    np.testing.assert_allclose(command[-1], model.terms()["gravity"] - damping, atol=1e-9)
