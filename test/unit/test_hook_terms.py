# SPDX-License-Identifier: Apache-2.0
"""Terms that lead from base rows to the command, and the limits of their sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_samples import random_chunk

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.limiter import CommandLimiter, LimiterConfig
from vla_ros.policies.hooks.log import N_ROW, chunk_of, from_arrays, to_arrays
from vla_ros.policies.hooks.terms import HookedRows, moved, offsets_between
from vla_ros.rotations import difference


def test_without_hooks_the_rows_are_those_of_the_policy_bit_by_bit() -> None:
    base = random_chunk(0, np.random.default_rng(0))
    command = HookChain().apply(base, 0).command
    np.testing.assert_array_equal(command.positions, base.positions)
    np.testing.assert_array_equal(command.quats_xyzw, base.quats_xyzw)
    np.testing.assert_array_equal(command.gripper_width_m, base.gripper_width_m)


def test_offsets_between_rows_lead_from_one_to_the_other() -> None:
    rng = np.random.default_rng(1)
    a, b = random_chunk(0, rng), random_chunk(0, rng)
    there = moved(a, offsets_between(a, b))
    np.testing.assert_allclose(there.positions, b.positions, atol=1e-12)
    np.testing.assert_allclose(difference(there.quats_xyzw, b.quats_xyzw), 0.0, atol=1e-9)
    np.testing.assert_allclose(there.gripper_width_m, b.gripper_width_m, atol=1e-12)
    with pytest.raises(ShapeError, match="same times"):
        offsets_between(a, replace(b, target0_ns=1))
    with pytest.raises(ShapeError, match="residual must be"):
        HookedRows(
            base=a, steering=np.zeros((8, 7)), residual=np.zeros((8, 6)), limit=np.zeros((8, 7))
        )


@given(st.integers(0, 2**31), st.floats(0.0, 0.5), st.floats(0.02, 2.0))
@settings(max_examples=60, deadline=None)
def test_limits_hold_for_any_rows(seed: int, size: float, speed_m_s: float) -> None:
    rng = np.random.default_rng(seed)
    base = random_chunk(0, rng)
    c = LimiterConfig(
        deviation_m=0.03,
        speed_m_s=speed_m_s,
        box_low_m=(-0.05, -0.05, -0.05),
        box_high_m=(0.05, 0.05, 0.05),
    )
    added = size * rng.standard_normal((base.horizon, 7))
    added[:, 6] = 0.0
    limit = CommandLimiter(c).term(base, added)
    there = moved(base, added + limit)
    assert np.abs(there.positions).max() <= 0.05 + 1e-9
    steps = np.linalg.norm(np.diff(there.positions, axis=0), axis=1)
    assert steps.max() <= speed_m_s * 1e-9 * base.dt_ns + 1e-9
    turned = np.linalg.norm(difference(base.quats_xyzw, there.quats_xyzw), axis=1)
    assert turned.max() <= c.deviation_rad + 1e-9


def test_rows_within_the_limits_are_not_touched_and_far_ones_are_brought_near() -> None:
    base = random_chunk(0, np.random.default_rng(3))
    limiter = CommandLimiter(LimiterConfig(deviation_m=0.03, speed_m_s=3.0))
    added = np.zeros((base.horizon, 7))
    added[:, 0] = 0.02
    assert not limiter.term(base, added).any()
    added[:, 0] = 0.05
    np.testing.assert_allclose((added + limiter.term(base, added))[:, 0], 0.03, atol=1e-12)
    with pytest.raises(ConfigError, match="box_low_m must be below"):
        LimiterConfig(box_low_m=(0.0, 0.0, 1.0), box_high_m=(1.0, 1.0, 1.0))


def test_terms_as_arrays_and_back_give_the_command_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    terms = {name: 0.01 * rng.standard_normal((8, 7)) for name in ("steering", "residual", "limit")}
    rows = HookedRows(base=random_chunk(7, rng), **terms)
    arrays = {name: values.ravel() for name, values in to_arrays(rows).items()}
    again = from_arrays(arrays, rows.base.target0_ns, rows.base.dt_ns)
    said = chunk_of(arrays["command"], rows.base.target0_ns, rows.base.dt_ns)
    for command in (again.command, said):
        assert command.target0_ns == 7
        np.testing.assert_array_equal(command.positions, rows.command.positions)
        np.testing.assert_array_equal(command.quats_xyzw, rows.command.quats_xyzw)
        np.testing.assert_array_equal(command.gripper_width_m, rows.command.gripper_width_m)
    with pytest.raises(ShapeError, match="residual must have 7 numbers per row, got 55"):
        from_arrays(arrays | {"residual": arrays["residual"][:-1]}, 0, 1)
    with pytest.raises(ShapeError, match="steering must be"):
        from_arrays(arrays | {"steering": arrays["steering"][:7]}, 0, 1)
    with pytest.raises(ShapeError, match="needs rows"):
        chunk_of(np.zeros(0), 0, 1)
    assert arrays["base"].size == 8 * N_ROW
