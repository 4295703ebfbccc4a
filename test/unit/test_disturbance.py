# SPDX-License-Identifier: Apache-2.0
"""Noise on demonstrations, and the truth that they are labelled with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from admission_samples import state

from vla_ros.policies.classical_fast import ClassicalFastPolicy
from vla_ros.policies.instruction import PickPlaceGoal
from vla_ros.sim.disturbance import Disturbance, DisturbanceConfig
from vla_ros.sim.ground_truth import read_objects, true_latent, with_belief_error
from vla_ros.sim.scene_info import SceneInfo
from vla_ros.sim.tasks import apply_layout, sample_layout

INFO = SceneInfo.load(Path(__file__).parents[1] / "data" / "fr3_scene_info.json")
GOAL = PickPlaceGoal("green", "cyan")


def drawn(seed, n=600, **changes):
    noise = Disturbance(seed, DisturbanceConfig(**changes), 1 / 30)
    return noise, [noise.step() for _ in range(n)]


def test_same_seed_gives_the_same_noise():
    for a, b in zip(drawn(3)[1], drawn(3)[1], strict=True):
        np.testing.assert_array_equal(a.goal, b.goal)
        assert a.flips_gripper == b.flips_gripper


def test_calm_episodes_have_no_noise_and_are_as_many_as_asked_for():
    calm = 0
    for seed in range(300):
        noise, steps = drawn(seed, n=40)
        if not any(s.goal.any() for s in steps):
            calm += 1
            assert noise.speed_scale == 1.0
            assert not any(s.pick_m.any() or s.flips_gripper for s in steps)
            assert all(s.excursion is None for s in steps)
    assert 0.13 < calm / 300 < 0.27


def test_wandering_has_the_size_asked_for():
    config = {"calm_share": 0.0, "kick_hz": 0.0, "goal_m": 0.01, "wander_s": 0.1}
    goals = np.array([[s.goal for s in drawn(seed, **config)[1]] for seed in range(60)])
    levels = goals[..., :2].std(axis=(1, 2)) / 0.01
    assert levels.min() > 0.25
    assert levels.max() < 1.3
    assert 0.5 < levels.mean() < 0.8  # levels are drawn from 0.3 to 1


def test_everything_happens_now_and_then():
    steps = [s for seed in range(60) for s in drawn(seed, n=300)[1]]
    for share in (
        np.mean([s.flips_gripper for s in steps]),
        np.mean([s.pick_m.any() for s in steps]),
        np.mean([s.excursion is not None for s in steps]),
        np.mean([np.linalg.norm(s.goal[:3]) > 0.04 for s in steps]),
    ):
        assert 0.002 < share < 0.4


def test_excursions_stay_above_the_table_and_lead_home_now_and_then():
    begins = [drawn(seed, n=1)[1][0].excursion for seed in range(400)]
    places = np.array([e for e in begins if e is not None])
    assert 0.3 < len(places) / 400 < 0.5  # of the four fifths that are not calm
    assert places[:, 2].min() >= 0.10
    assert 0.15 < np.mean(places[:, 2] == 0.45) < 0.45


def test_truth_is_where_the_layout_puts_things():
    qpos = apply_layout(INFO, layout := sample_layout(3))
    objects = read_objects(INFO, qpos)
    truth = true_latent(INFO, objects, GOAL, state(), now_ns=5)
    x, y, yaw = layout.cubes["green"]
    np.testing.assert_allclose(truth["pick_position"], [x, y, 0.02], atol=1e-9)
    np.testing.assert_allclose(truth["pick_yaw"], [yaw])
    np.testing.assert_allclose(truth["place_position"][:2], layout.bowls["cyan"])
    assert truth["placed"][0] == 0.0
    moved = with_belief_error(truth, np.array([0.01, 0.0]), np.array([0.0, -0.02]))
    np.testing.assert_allclose(moved["pick_position"] - truth["pick_position"], [0.01, 0, 0])
    np.testing.assert_allclose(moved["place_position"] - truth["place_position"], [0, -0.02, 0])
    assert ClassicalFastPolicy().decide(moved, 5, state()).phase


def test_cube_in_the_bowl_counts_as_placed_once_the_gripper_is_open():
    qpos = apply_layout(INFO, layout := sample_layout(3))
    start = INFO.cube_qpos["green"]
    qpos[start : start + 2] = layout.bowls["cyan"]
    objects = read_objects(INFO, qpos)
    at_cube = state()
    at_cube.T_base_ee[:3, 3] = objects.cubes[1, :3]
    for width, placed in ((0.04, 0.0), (0.08, 1.0)):
        now = dataclasses.replace(at_cube, gripper_width_m=width)
        assert true_latent(INFO, objects, GOAL, now, 5)["placed"][0] == placed
