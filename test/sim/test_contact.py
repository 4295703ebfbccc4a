# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import importlib.util
import math

import numpy as np
import pytest

pytest.importorskip("mujoco")
if importlib.util.find_spec("franky_sim") is None:
    pytest.skip("the FR3 model is not installed", allow_module_level=True)

import mujoco

from vla_ros.control.host import build_model
from vla_ros.errors import ConfigError
from vla_ros.sim.contact.arm import ContactArm, solve_pose, tool_arm
from vla_ros.sim.contact.peg import DOWN, PegRunner
from vla_ros.sim.contact.peg_task import PegConfig, draw_trial
from vla_ros.sim.contact.scene import (
    TOOL_GEOM,
    PegScene,
    WipeScene,
    build_peg_scene,
    build_wipe_scene,
)
from vla_ros.sim.contact.wipe import RasterPath, WipeConfig, WipeRunner

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def peg_runner():
    return PegRunner()


def peg_distances(model, data, offset) -> list[float]:
    """Return the distance [m] from an upright peg, moved by ``offset`` (2,), to every wall."""
    q = solve_pose(model, np.array([0.5 + offset[0], offset[1], 0.085]), DOWN)
    data.qpos[:] = q
    model.body_pos[model.body("work").id] = (0.5, 0.0, 0.10)
    mujoco.mj_kinematics(model, data)
    tool = model.geom(TOOL_GEOM).id
    walls = [model.geom(f"wall{i}").id for i in range(PegScene().wall_boxes)]
    return [mujoco.mj_geomDistance(model, data, tool, wall, 0.01, None) for wall in walls]


def test_hole_is_half_a_millimetre_wider_than_the_peg():
    scene = PegScene()
    model = build_peg_scene(scene)
    model.opt.disableflags = 0  # distances need the newer collision code, at a fine tolerance
    model.opt.ccd_tolerance, model.opt.ccd_iterations = 1e-9, 500
    data = mujoco.MjData(model)
    assert 2 * model.geom(TOOL_GEOM).size[0] == pytest.approx(0.020)
    inner = [
        np.linalg.norm(model.geom(f"wall{i}").pos[:2]) - model.geom(f"wall{i}").size[0]
        for i in range(scene.wall_boxes)
    ]
    np.testing.assert_allclose(inner, 0.01025, atol=1e-12)
    np.testing.assert_allclose(peg_distances(model, data, (0.0, 0.0)), 0.00025, atol=2e-6)
    # Towards a face and towards a corner: where the peg's axis can go at most.
    corner = 0.00025 / math.cos(math.pi / scene.wall_boxes)
    for angle, free in ((0.0, 0.00025), (math.pi / scene.wall_boxes, corner)):
        direction = np.array([math.cos(angle), math.sin(angle)])
        assert min(peg_distances(model, data, (free - 5e-6) * direction)) > 0.0
        assert min(peg_distances(model, data, (free + 5e-6) * direction)) < 0.0


def test_sensed_pose_is_the_forward_kinematics_of_the_laws_model():
    scene = WipeScene()
    model = build_wipe_scene(scene)
    pin_model = build_model(tool_arm(scene, 0.045))
    data = mujoco.MjData(model)
    random = np.random.default_rng(3)
    for _ in range(5):
        q = np.array([0.0, -0.8, 0.0, -2.3, 0.0, 1.6, 0.8]) + random.uniform(-0.3, 0.3, 7)
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        pin_model.update(list(q), [0.0] * 7)
        np.testing.assert_allclose(
            pin_model.terms()["position"], data.site("tool_tip").xpos, atol=1e-5
        )


def test_force_sensor_less_weight_is_the_true_contact_force():
    """The arm rests on the surface: mean of the noisy sensor against MuJoCo's contact forces."""
    runner = WipeRunner(WipeConfig())
    try:
        q = solve_pose(runner.model, np.array([0.5, 0.0, 0.10]), DOWN)
        runner.model.body_pos[runner.model.body("work").id] = (0.5, 0.0, 0.0995)
        config = runner._law_config(q, 50.0)
        arm = ContactArm(runner.model, runner._description, config, 0.1, seed=1)
        arm.start(q)
        arm.law.wrench[2] = -8.0
        for _ in range(800):
            arm.step()
        felt, true, wrench = [], [], np.zeros(6)
        for _ in range(400):
            truth = arm.step()
            felt.append(arm.sense().force)
            mujoco.mj_contactForce(arm.model, arm.data, 0, wrench)
            assert truth.normal_force_n == pytest.approx(wrench[0], rel=0.05)
            true.append(truth.force)
    finally:
        runner.close()
    np.testing.assert_allclose(np.mean(felt, axis=0), np.mean(true, axis=0), atol=0.03)
    assert np.mean(true, axis=0)[2] < -6.0
    assert np.std(np.array(felt)[:, 2]) == pytest.approx(0.05, rel=0.2)


def test_raster_path_has_the_stated_speed_and_length():
    config = WipeConfig(lines=3, length_m=0.1, spacing_m=0.02, speed_m_s=0.08)
    path = RasterPath(config, np.array([0.5, 0.1]))
    assert path.duration_s == pytest.approx((3 * 0.1 + 2 * 0.02) / 0.08)
    for t in (0.3, 1.3, 2.9):
        step = (path.at(t + 1e-6)[0] - path.at(t - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(step, path.at(t)[1], atol=1e-6)
        assert np.linalg.norm(step) == pytest.approx(0.08)
    np.testing.assert_allclose(path.points().mean(axis=0), (0.5, 0.1), atol=1e-3)


@pytest.mark.parametrize("surface", ["flat", "curved"])
def test_wiping_keeps_5_n_in_every_window_at_30_percent_loss(surface):
    runner = WipeRunner(WipeConfig(surface=surface, lines=1, length_m=0.12))
    try:
        result, _, _ = runner.run(200)
        again, _, _ = runner.run(200)
    finally:
        runner.close()
    assert dataclasses.asdict(result) == dataclasses.asdict(again)
    assert result.windows_off == 0
    assert result.windows >= 15
    assert result.lost > 0
    assert result.refused == 0
    assert result.penetration_um < 50.0


def test_without_the_integral_joint_friction_shows():
    runner = WipeRunner(WipeConfig(lines=1, integral=False))
    try:
        result, _, _ = runner.run(200)
    finally:
        runner.close()
    assert 0.3 < result.worst_window_n < 3.0


def test_trials_stay_within_the_stated_errors_and_fill_them():
    config = PegConfig()
    trials = [draw_trial(seed, config) for seed in range(400)]
    errors = [np.linalg.norm((t.believed - t.true)[:2, 3]) for t in trials]
    tilts = [math.acos(t.true[:3, 2] @ t.believed[:3, 2]) for t in trials]
    assert 0.0029 < max(errors) <= 0.003 + 1e-12
    assert math.radians(1.93) < max(tilts) <= math.radians(2.0) + 1e-9
    # Uniform in a disc: the mean radius is two thirds of the largest.
    assert np.mean(errors) == pytest.approx(0.002, rel=0.06)


def test_search_finds_the_hole_where_pushing_and_position_control_do_not(peg_runner):
    results = {name: peg_runner.run(2000, name)[0] for name in ("search", "no_search", "stiff")}
    assert results["search"].error_mm > 0.5
    assert results["search"].success
    assert not results["no_search"].success
    assert not results["stiff"].success
    for result in results.values():
        assert max(result.axial_n, result.lateral_n) < 25.0
        assert result.penetration_um < 50.0


def test_every_controller_inserts_when_the_hole_is_where_it_is_believed_to_be(peg_runner):
    exact = PegRunner(PegConfig(position_error_m=0.0, tilt_error_rad=0.0))
    for name in ("search", "no_search", "stiff"):
        result, _ = exact.run(2001, name)
        assert result.success, (name, result)


def test_unknown_controller_is_refused_by_name(peg_runner):
    with pytest.raises(ConfigError, match="controller must be one of"):
        peg_runner.run(0, "magic")
