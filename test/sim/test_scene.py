# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import math
import time
from pathlib import Path

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")
if importlib.util.find_spec("franky_sim") is None:
    pytest.skip("the FR3 model is not installed", allow_module_level=True)

from impedance_arm import ImpedanceArm  # noqa: E402

from vla_ros.errors import ConfigError  # noqa: E402
from vla_ros.sim import assets  # noqa: E402
from vla_ros.sim.judge import Judge  # noqa: E402
from vla_ros.sim.scene import (  # noqa: E402
    HOME_Q,
    SceneConfig,
    build_scene,
    describe_scene,
    load_model,
    save_model,
)
from vla_ros.sim.scene_info import SceneInfo  # noqa: E402
from vla_ros.sim.scene_robot import ARM_JOINTS, TORQUE_LIMITS_NM  # noqa: E402
from vla_ros.sim.tasks import apply_layout, goal_for_seed, sample_layout  # noqa: E402

pytestmark = pytest.mark.sim
STORED_INFO = Path(__file__).parents[1] / "data" / "fr3_scene_info.json"


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_scene()


@pytest.fixture(scope="module")
def info(model: mujoco.MjModel) -> SceneInfo:
    return describe_scene(model)


def test_stored_scene_info_is_that_of_the_scene(info: SceneInfo) -> None:
    stored = SceneInfo.load(STORED_INFO)
    np.testing.assert_allclose(stored.home_qpos, info.home_qpos, atol=1e-12)
    assert stored.cube_qpos == info.cube_qpos
    assert stored.bowl_qpos == info.bowl_qpos
    assert stored.bowl == info.bowl
    np.testing.assert_allclose(stored.arm_links, info.arm_links, atol=1e-12)


def test_actuators_are_torque_motors_and_the_width(model: mujoco.MjModel) -> None:
    names = [model.actuator(i).name for i in range(model.nu)]
    assert names == [*ARM_JOINTS, "gripper"]
    for name, limit in zip(ARM_JOINTS, TORQUE_LIMITS_NM, strict=True):
        actuator = model.actuator(name)
        np.testing.assert_array_equal(actuator.ctrlrange, [-limit, limit])
        assert actuator.gainprm[0] == 1.0
        assert not actuator.biasprm.any()
    assert model.opt.timestep == 0.001
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


def test_friction_is_scaled() -> None:
    one = build_scene(SceneConfig(friction_scale=1.0))
    fifth = build_scene(SceneConfig(friction_scale=0.2))
    assert one.joint("fr3_joint1").frictionloss[0] == pytest.approx(1.137)
    assert fifth.joint("fr3_joint1").frictionloss[0] == pytest.approx(0.2 * 1.137)


def test_tcp_pose_agrees_with_mujoco(model: mujoco.MjModel, info: SceneInfo) -> None:
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(100):
        qpos = np.array(info.home_qpos)
        qpos[list(info.arm_qpos)] = HOME_Q + random.normal(0, 0.4, 7)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        T = info.tcp_pose(qpos)
        np.testing.assert_allclose(T[:3, 3], data.body("fr3_hand_tcp").xpos, atol=1e-9)
        np.testing.assert_allclose(T[:3, :3].ravel(), data.site("fr3_hand_tcp").xmat, atol=1e-9)


def test_layout_rests_where_it_was_put(model: mujoco.MjModel, info: SceneInfo) -> None:
    qpos = apply_layout(info, sample_layout(3))
    arm = ImpedanceArm(model, info, qpos)
    arm.step(1000)
    moving = [i for start in info.cube_qpos.values() for i in range(start, start + 3)]
    moving += [i for pair in info.bowl_qpos.values() for i in pair]
    np.testing.assert_allclose(arm.data.qpos[moving], qpos[moving], atol=1e-3)


def test_gripper_control_is_the_width_and_speed_is_realistic(
    model: mujoco.MjModel, info: SceneInfo
) -> None:
    arm = ImpedanceArm(model, info, np.array(info.home_qpos))
    for width in (0.0, 0.03, 0.08):
        arm.width_m, speeds = width, []
        for _ in range(120):
            arm.step(10)
            speeds.append(np.abs(arm.data.qvel[list(info.finger_dof)]).max())
        assert info.gripper_width(arm.data.qpos) == pytest.approx(width, abs=1.5e-3)
        assert max(speeds) <= 0.105


@pytest.mark.parametrize("seed", range(3))
def test_cube_can_be_picked_and_placed(model: mujoco.MjModel, info: SceneInfo, seed: int) -> None:
    layout, goal = sample_layout(seed), goal_for_seed(seed)
    arm, judge = ImpedanceArm(model, info, apply_layout(info, layout)), Judge(info, goal)
    x, y, yaw = layout.cubes[goal.cube_colour]
    yaw = (yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
    bowl = layout.bowls[goal.bowl_colour]
    arm.go((x, y, 0.15), yaw)
    arm.go((x, y, 0.02), yaw)
    arm.grip(0.0)
    assert info.gripper_width(arm.data.qpos) == pytest.approx(info.cube_side_m, abs=2e-3)
    arm.go((x, y, 0.2), yaw)
    held = info.cube_position(arm.data.qpos, goal.cube_colour)
    assert held[2] > 0.17
    arm.go((*bowl, 0.2), yaw, speed_m_s=0.5)
    offset = info.cube_position(arm.data.qpos, goal.cube_colour) - arm.data.xpos[arm.body]
    assert np.linalg.norm(offset[:2]) < 0.006, "the cube slipped"
    arm.go((*bowl, 0.08), yaw)
    assert not judge.update(arm.data.qpos, arm.data.qvel, 0).success
    arm.grip(0.07)
    judge.update(arm.data.qpos, arm.data.qvel, 1)
    arm.step(500)
    verdict = judge.update(arm.data.qpos, arm.data.qvel, 500_000_001)
    assert verdict.success, verdict.reason


def test_step_is_cheap(model: mujoco.MjModel, info: SceneInfo) -> None:
    data = mujoco.MjData(model)
    data.qpos[:] = apply_layout(info, sample_layout(0))
    durations = []
    for _ in range(2000):
        data.ctrl[list(info.arm_actuators)] = data.qfrc_bias[list(info.arm_dof)]
        start = time.perf_counter()
        mujoco.mj_step(model, data)
        durations.append(time.perf_counter() - start)
    # Five times the aim of 40 us: this guards against a slip of a magnitude, not against noise.
    assert np.median(durations) < 200e-6


def test_saved_model_steps_identically(
    model: mujoco.MjModel, info: SceneInfo, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "scene.mjb")
    results = []
    for candidate in (model, load_model(tmp_path / "scene.mjb")):
        data = mujoco.MjData(candidate)
        data.qpos[:] = info.home_qpos
        for _ in range(200):
            mujoco.mj_step(candidate, data)
        results.append(data.qpos.copy())
    np.testing.assert_array_equal(*results)


def test_load_model_missing_or_damaged_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found"):
        load_model(tmp_path / "none.mjb")
    (tmp_path / "bad.mjb").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="build the scene again"):
        load_model(tmp_path / "bad.mjb")


def test_missing_assets_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_PACKAGE", "no_such_package_here")
    with pytest.raises(ConfigError, match="pip install"):
        assets.find_fr3_assets()


@pytest.mark.parametrize(
    "values", [{"timestep_s": 0.1}, {"friction_scale": 2.0}, {"gripper_force_n": 0.0}]
)
def test_config_out_of_range_raises(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        SceneConfig(**values)  # type: ignore[arg-type]
