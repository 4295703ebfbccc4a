# SPDX-License-Identifier: Apache-2.0
"""Where the arm will be, against a fine integration of mass, spring and damper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import DT_NS, make_chunk, make_state, random_chunk

from vla_ros.chunking.projection import (
    ImpedanceModel,
    free_response,
    last_row_state,
    project_state,
)
from vla_ros.chunking.rows import row_times, sample
from vla_ros.errors import ConfigError
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.rotations import difference


def integrated(frequency: float, ratio: float, e: float, de: float, time_s: float) -> np.ndarray:
    n = 20_000
    h = time_s / n
    for _ in range(n):
        dde = -2 * ratio * frequency * de - frequency**2 * e
        de += h * dde
        e += h * de
    return np.array([e, de])


@pytest.mark.parametrize("ratio", [0.3, 0.999999, 1.0, 1.4])
def test_free_response_is_that_of_mass_spring_damper(ratio: float) -> None:
    found = free_response(15.0, ratio, 0.12) @ np.array([0.02, -0.1])
    np.testing.assert_allclose(found, integrated(15.0, ratio, 0.02, -0.1, 0.12), atol=2e-4)


@given(st.floats(0.5, 60.0), st.floats(0.1, 3.0), st.floats(0.0, 0.3), st.floats(0.0, 0.3))
def test_free_response_composes(frequency: float, ratio: float, a: float, b: float) -> None:
    whole = free_response(frequency, ratio, a + b)
    parts = free_response(frequency, ratio, b) @ free_response(frequency, ratio, a)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_an_arm_at_rest_on_its_reference_stays() -> None:
    state = project_state(make_state(0, 0.3), None, 10 * DT_NS, ImpedanceModel())
    np.testing.assert_allclose(state.T_base_ee, make_state(0, 0.3).T_base_ee, atol=1e-12)
    np.testing.assert_allclose(state.twist_base, 0.0, atol=1e-12)


def test_an_arm_in_steady_motion_stays_on_its_reference() -> None:
    """The law damps about the velocity of the reference, so a ramp is followed without lag."""
    rows = make_chunk(0, 0.01 * np.arange(20.0))
    state = replace(make_state(0), twist_base=np.array([0.01 / (1e-9 * DT_NS), 0, 0, 0, 0, 0]))
    ahead = project_state(state, rows, 10 * DT_NS, ImpedanceModel())
    assert ahead.T_base_ee[0, 3] == pytest.approx(0.1)
    assert ahead.twist_base[0] == pytest.approx(0.2)


def test_an_arm_started_from_rest_lags_behind_the_last_command() -> None:
    rows = make_chunk(0, 0.01 * np.arange(20.0))
    ahead = project_state(make_state(0), rows, 3 * DT_NS, ImpedanceModel())
    command = last_row_state(make_state(0), rows, 3 * DT_NS)
    expected = 0.03 + integrated(18.0, 1.0, 0.0, -0.2, 0.15)[0]
    assert ahead.T_base_ee[0, 3] == pytest.approx(expected, abs=1e-4)
    assert ahead.T_base_ee[0, 3] < 0.028
    assert command.T_base_ee[0, 3] == pytest.approx(0.02)  # the last row due before


def test_a_soft_arm_is_farther_behind_than_a_stiff_one() -> None:
    rows = make_chunk(0, 0.01 * np.arange(20.0))
    reached = [
        project_state(
            make_state(0), rows, 3 * DT_NS, ImpedanceModel(frequency_trans_rad_s=w)
        ).T_base_ee[0, 3]
        for w in (2.0, 10.0, 300.0)
    ]
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(0.03, abs=1e-4)


def test_projection_in_two_parts_is_the_same() -> None:
    rng = np.random.default_rng(0)
    rows = random_chunk(0, rng)
    model = ImpedanceModel(damping_ratio=0.7)
    state = make_state(0)
    whole = project_state(state, rows, 5 * DT_NS, model)
    half = replace(project_state(state, rows, 2 * DT_NS, model), tick_ns=2 * DT_NS)
    parts = project_state(half, rows, 5 * DT_NS, model)
    np.testing.assert_allclose(parts.T_base_ee[:3, 3], whole.T_base_ee[:3, 3], atol=1e-9)
    np.testing.assert_allclose(parts.T_base_ee, whole.T_base_ee, atol=2e-2)  # rotations: chart


def test_rotation_is_projected() -> None:
    rng = np.random.default_rng(1)
    rows = random_chunk(0, rng)
    stiff = ImpedanceModel(frequency_rot_rad_s=400.0, frequency_trans_rad_s=400.0)
    ahead = project_state(make_state(0), rows, 4 * DT_NS, stiff)
    wanted = sample(rows, np.array([4 * DT_NS])).quats_xyzw
    apart = difference(matrix_to_quat_xyzw(ahead.T_base_ee[:3, :3])[None], wanted)
    assert np.linalg.norm(apart) < 1e-3


def test_rows_that_end_are_held() -> None:
    rows = make_chunk(0, [0.0, 0.01, 0.02])
    ahead = project_state(make_state(0), rows, 60 * DT_NS, ImpedanceModel())
    assert ahead.T_base_ee[0, 3] == pytest.approx(0.02, abs=1e-6)
    np.testing.assert_allclose(ahead.twist_base, 0.0, atol=1e-6)
    np.testing.assert_array_equal(ahead.twist_ref_base, 0.0)


def test_gripper_moves_at_its_speed() -> None:
    rows = replace(make_chunk(0, np.zeros(8)), gripper_width_m=np.zeros(8))
    ahead = project_state(make_state(0), rows, 2 * DT_NS, ImpedanceModel(gripper_speed_m_s=0.1))
    assert ahead.gripper_width_m == pytest.approx(0.03)
    assert ahead.gripper_target_m == 0.0


def test_what_was_measured_keeps_its_stamp() -> None:
    state = make_state(7)
    ahead = project_state(state, make_chunk(0, np.arange(8.0)), 5 * DT_NS, ImpedanceModel())
    assert (ahead.seq, ahead.tick_ns) == (state.seq, state.tick_ns)
    np.testing.assert_array_equal(ahead.q, state.q)


def test_a_time_that_is_not_ahead_changes_nothing() -> None:
    state, rows = make_state(5 * DT_NS), make_chunk(0, np.arange(8.0))
    assert project_state(state, rows, 5 * DT_NS, ImpedanceModel()) is state
    assert last_row_state(state, rows, 0) is state
    assert last_row_state(state, None, 9 * DT_NS) is state
    assert row_times(rows)[0] == 0


def test_models_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="damping_ratio"):
        ImpedanceModel(damping_ratio=0.0)
