# SPDX-License-Identifier: Apache-2.0
"""Two arms on one leaning torso under one control host."""

import os
from pathlib import Path

import mujoco
import numpy as np
import pinocchio as pin
import pytest
from two_arms import JOINTS, SIDES, START_Q, TOOLS, arm, two_arm_urdf

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.errors import ConfigError
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.plant import find_mujoco_library
from vla_ros.types import ControlMode

pytestmark = pytest.mark.sim
# The plant lists its joints in an order of its own.
PLANT_JOINTS = [name for pair in zip(JOINTS["right"], JOINTS["left"], strict=True) for name in pair]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    spec = mujoco.MjSpec.from_string(two_arm_urdf())
    spec.option.timestep = 0.001
    for name in PLANT_JOINTS:
        spec.joint(name).armature = 0.05
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_motor()
    path = tmp_path_factory.mktemp("two") / "two.mjb"
    mujoco.mj_saveModel(spec.compile(), str(path))
    return path


def build_plant(model_path: Path) -> core.MujocoPlant:
    config = core.MujocoPlantConfig()
    config.library_path = str(find_mujoco_library())
    config.model_path = str(model_path)
    config.joint_names = config.actuator_names = PLANT_JOINTS
    return core.MujocoPlant(config)


class TwoArmRig:
    """Both arms at START_Q in virtual time."""

    def __init__(self, model_path: Path, names=PLANT_JOINTS) -> None:
        self.prefix = f"vla_ros.two{os.getpid()}"
        self.plant = build_plant(model_path)
        arms = [arm(side) for side in SIDES]
        self.host = build_host(
            ControlConfig(), arms, self.plant, self.prefix, plant_joint_names=names
        )
        self.lease = core.LeaseWriter(self.prefix)
        self.now_ns = NS_PER_S
        self.plant.request_reset([*START_Q, *START_Q])
        self.run(0.5)

    def close(self) -> None:
        for path in Path("/dev/shm").glob(f"{self.prefix}.*"):
            path.unlink(missing_ok=True)

    def run(self, duration_s: float) -> None:
        self.now_ns = self.host.run_ticks(self.now_ns, round(1000 * duration_s))

    def grant(self, source: str) -> None:
        self.lease.write(source, 1, self.now_ns + 100 * NS_PER_S)
        self.run(0.005)

    def state(self, side: str) -> dict:
        return self.host.state(TOOLS[side])

    def place(self, side: str) -> np.ndarray:
        return np.array(self.state(side)["position"])


@pytest.fixture
def rig(model_path):
    rig = TwoArmRig(model_path)
    yield rig
    rig.close()


def tool_in_torso(side: str, q) -> np.ndarray:
    """Return the position of a tool by Pinocchio, for joint positions of that arm."""
    model = pin.buildModelFromXML(two_arm_urdf())
    full = np.zeros(model.nq)
    for name, value in zip(JOINTS[side], q, strict=True):
        full[model.joints[model.getJointId(name)].idx_q] = value
    data = model.createData()
    pin.framesForwardKinematics(model, data, full)
    torso, tool = (data.oMf[model.getFrameId(name)] for name in ("torso", TOOLS[side]))
    return (torso.inverse() * tool).translation


def test_both_arms_hold_and_are_told_in_the_base_frame(rig):
    before = {side: rig.place(side) for side in SIDES}
    rig.run(1.0)
    for side in SIDES:
        state = rig.state(side)
        assert np.linalg.norm(rig.place(side) - before[side]) < 1e-3
        np.testing.assert_allclose(state["q"], START_Q, atol=0.02)
        np.testing.assert_allclose(rig.place(side), tool_in_torso(side, state["q"]), atol=1e-9)
    assert rig.host.arms == [TOOLS["left"], TOOLS["right"]]
    assert rig.host.state()["q"] == rig.state("left")["q"]


@pytest.mark.parametrize("side", SIDES)
def test_target_moves_the_arm_that_it_names(rig, side):
    rig.grant("topic")
    other = SIDES[1 - SIDES.index(side)]
    start, still = rig.place(side), rig.place(other)
    quat = rig.state(side)["ref_quat_xyzw"]
    step = np.array([0.03, 0.02, -0.02])
    for _ in range(100):
        reason = rig.host.set_target_pose(list(start + step), quat, frame="torso", arm=TOOLS[side])
        assert reason == ""
        rig.run(0.02)
    np.testing.assert_allclose(rig.place(side) - start, step, atol=2e-3)
    assert np.linalg.norm(rig.place(other) - still) < 1e-3
    assert rig.state(side)["mode"] == ControlMode.TRACK
    assert rig.state(other)["mode"] == ControlMode.IDLE


def test_targets_in_other_frames_and_for_other_arms_are_refused(rig):
    rig.grant("topic")
    position, quat = list(rig.place("left")), rig.state("left")["ref_quat_xyzw"]
    assert rig.host.set_target_pose(position, quat, frame="stand") == "not in the base frame"
    assert rig.host.set_target_pose(position, quat, arm="head") == "unknown end effector"
    names, q = list(JOINTS["right"]), list(START_Q)
    assert rig.host.set_target_joint(names, q) == "unknown joint"
    assert rig.host.set_target_joint(names, q, arm=TOOLS["right"]) == ""
    refused = rig.host.counters()["targets_rejected"]
    assert refused["not in the base frame"] == 1
    assert refused["unknown end effector"] == 1


def send_rows(rig, side: str, velocity) -> None:
    """Send two seconds of straight motion to one arm."""
    source = "policy" if side == "left" else f"policy.{TOOLS[side]}"
    writer = core.SegmentWriter(rig.prefix, source)
    state = rig.state(side)
    times = np.linspace(0.0, 2.0, 32)
    writer.write(
        LatencyStamp(kind=StampKind.CHUNK, capture_oldest_ns=rig.now_ns).to_bytes(),
        rig.now_ns + (times * NS_PER_S).astype(np.int64),
        np.array(state["ref_position"]) + np.outer(times, velocity),
        np.tile(state["ref_quat_xyzw"], (32, 1)),
        np.tile([*velocity, 0.0, 0.0, 0.0], (32, 1)).astype(float),
        np.full(32, 0.08),
        rig.now_ns + 100 * NS_PER_S,
        1,
        1,
    )
    writer.close()


def test_each_arm_has_segments_of_its_own_and_they_stop_together(rig):
    rig.grant("policy")
    start = {side: rig.place(side) for side in SIDES}
    send_rows(rig, "left", (0.05, 0.0, 0.0))
    send_rows(rig, "right", (0.0, 0.0, -0.05))
    rig.run(1.0)
    np.testing.assert_allclose(rig.place("left") - start["left"], [0.05, 0, 0], atol=4e-3)
    np.testing.assert_allclose(rig.place("right") - start["right"], [0, 0, -0.05], atol=4e-3)
    assert core.StateReader(rig.prefix, TOOLS["right"]).latest() == rig.state("right")
    rig.host.stop()
    rig.run(0.001)
    assert {rig.state(side)["mode"] for side in SIDES} == {ControlMode.STOPPED}
    rig.run(0.5)
    for side in SIDES:
        assert np.linalg.norm(rig.state(side)["twist"]) < 0.02


def test_gains_are_changed_per_arm(rig):
    law = core.LawConfig.for_joints(7)
    law.torque_limit, law.torque_rate_limit = [50.0] * 7, [1000.0] * 7
    law.posture = list(START_Q)
    rig.host.set_law(law, TOOLS["right"])
    rig.run(0.2)
    with pytest.raises(core.Error, match="no end effector 'head'; there are left_tool, right_tool"):
        rig.host.set_law(law, "head")


def test_arms_and_plant_must_fit(model_path):
    names = [f"x_{name}" for name in PLANT_JOINTS]
    with pytest.raises(ConfigError, match="the plant has no joint 'left_joint1'"):
        TwoArmRig(model_path, names)
    plant = build_plant(model_path)
    prefix = f"vla_ros.two{os.getpid()}"
    try:
        with pytest.raises(ConfigError, match="the plant has 14 joints, the arms 7"):
            build_host(ControlConfig(), arm("left"), plant, prefix)
        with pytest.raises(ConfigError, match="two arms have the end effector 'left_tool'"):
            build_host(ControlConfig(), [arm("left")] * 2, plant, prefix)
    finally:
        for path in Path("/dev/shm").glob(f"{prefix}.*"):
            path.unlink(missing_ok=True)
