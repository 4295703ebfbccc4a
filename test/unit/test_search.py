# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_ros.control.search import Insertion, InsertionConfig, Phase, Spiral, SpiralConfig
from vla_ros.errors import ConfigError
from vla_ros.geometry import make_pose, quat_xyzw_to_matrix, rotation_vector_to_quat

CONFIG = SpiralConfig(pitch_m=0.0004, radius_m=0.004, speed_m_s=0.01)


def points(spiral: Spiral, duration_s: float, step_s: float = 0.001) -> np.ndarray:
    return np.array([spiral.offset(t)[0] for t in np.arange(0.0, duration_s, step_s)])


def test_one_pass_comes_within_half_a_pitch_of_every_point_of_the_disc():
    spiral = Spiral(CONFIG)
    path = points(spiral, spiral.pass_s)
    random = np.random.default_rng(1)
    radius, angle = 0.0038 * np.sqrt(random.uniform(size=500)), random.uniform(-np.pi, np.pi, 500)
    for target in np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1):
        assert np.linalg.norm(path - target, axis=1).min() < 0.5 * CONFIG.pitch_m + 2e-5


def test_position_has_no_jump_and_velocity_is_its_derivative_over_several_passes():
    spiral = Spiral(CONFIG)
    step_s = 1e-5
    for t in np.linspace(0.01, 3.2 * spiral.pass_s, 400):
        if abs(t / spiral.pass_s - round(t / spiral.pass_s)) < 1e-3:
            continue  # the turning point
        difference = (spiral.offset(t + step_s)[0] - spiral.offset(t - step_s)[0]) / (2 * step_s)
        np.testing.assert_allclose(spiral.offset(t)[1], difference, atol=2e-5)
    path = points(spiral, 3 * spiral.pass_s)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 1.05 * CONFIG.speed_m_s * 0.001
    assert np.linalg.norm(path, axis=1).max() <= CONFIG.radius_m + 1e-12


def test_outer_turns_run_at_the_stated_speed():
    spiral = Spiral(CONFIG)
    speed = np.linalg.norm(spiral.offset(0.9 * spiral.pass_s)[1])
    assert speed == pytest.approx(CONFIG.speed_m_s, rel=0.12)


def tilted_hole() -> np.ndarray:
    R = quat_xyzw_to_matrix(rotation_vector_to_quat(np.array([0.03, -0.02, 0.0])))
    return make_pose(np.array([0.5, 0.1, 0.2]), R)


def in_base(hole: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return hole[:3, 3] + hole[:3, :3] @ np.array([x, y, z])


def feel(insertion: Insertion, hole: np.ndarray, force_n: float, start_s: float, tip) -> float:
    """Let 0.1 s pass at one tip position and axial force."""
    for i in range(100):
        insertion.update(start_s + 0.001 * i, in_base(hole, *tip), -force_n * hole[:3, 2])
    return start_s + 0.1


def test_phases_follow_contact_and_sinking_only():
    hole = tilted_hole()
    insertion = Insertion(hole)
    now_s = feel(insertion, hole, 0.5, 0.0, (0, 0, 0.003))
    assert insertion.phase is Phase.APPROACH
    now_s = feel(insertion, hole, 6.0, now_s, (0, 0, 0.0004))
    assert insertion.phase is Phase.SEARCH
    now_s = feel(insertion, hole, 6.0, now_s, (0.001, 0, -0.0007))
    assert insertion.phase is Phase.SEARCH  # 1.1 mm below the touch is less than the threshold
    feel(insertion, hole, 6.0, now_s, (0.001, 0.002, -0.0009))
    assert insertion.phase is Phase.INSERT


def test_the_hole_once_found_is_where_the_tip_was_then():
    hole = tilted_hole()
    insertion = Insertion(hole)
    now_s = feel(insertion, hole, 6.0, 0.0, (0, 0, 0))
    now_s = feel(insertion, hole, 1.0, now_s, (0.0011, -0.0023, -0.0015))
    command = insertion.update(now_s, in_base(hole, 0.0009, -0.0020, -0.010), np.zeros(3))
    np.testing.assert_allclose(command.position, in_base(hole, 0.0011, -0.0023, -0.010), atol=1e-12)
    np.testing.assert_allclose(command.velocity, 0.0)
    assert command.push_n == insertion.config.insert_n


def test_without_search_contact_leads_to_pushing_at_the_believed_place():
    hole = tilted_hole()
    insertion = Insertion(hole, InsertionConfig(search=False))
    now_s = feel(insertion, hole, 6.0, 0.0, (0.0001, 0, 0))
    assert insertion.phase is Phase.INSERT
    command = insertion.update(now_s, in_base(hole, 0.0001, 0, 0), np.zeros(3))
    np.testing.assert_allclose(command.position, in_base(hole, 0, 0, 0), atol=1e-12)


def test_settings_out_of_range_are_refused_by_name():
    with pytest.raises(ConfigError, match="pitch_m must be"):
        SpiralConfig(pitch_m=0.0)
