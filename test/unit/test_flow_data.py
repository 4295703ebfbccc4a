# SPDX-License-Identifier: Apache-2.0
"""What the flow head is trained on: labels that scatter, prefixes as long as latencies."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.flow_config import DetourConfig, ScatterConfig
from vla_ros.learning.flow_data import draw_prefix_rows, make_detours, scatter


def rows(n=4, seed=0):
    random = np.random.default_rng(seed)
    made = np.zeros((n, 16, 6), dtype=np.float32)
    made[..., :3] = np.linspace(0, 0.1, 16)[:, None] * random.normal(size=(n, 1, 3))
    made[..., 4], made[..., 5] = 1.0, 0.08
    return made


def test_labels_scatter_with_the_way_and_not_at_its_beginning():
    right, config = rows(2000), ScatterConfig(way_share=0.1)
    found = scatter(right, config, np.random.default_rng(1))
    away = np.linalg.norm(found - right, axis=-1)
    way = np.linalg.norm(right[:, -1, :3], axis=-1)
    assert np.abs(found[:, 0] - right[:, 0]).max() == 0.0
    assert np.sqrt(np.mean((away[:, -1] / way) ** 2)) == pytest.approx(0.1 * 3**0.5, rel=0.05)
    assert (np.diff(away, axis=1) >= -1e-6).all()
    np.testing.assert_array_equal(found[..., 5], right[..., 5])


def test_hand_that_stays_does_not_scatter():
    still = np.zeros_like(rows())
    still[..., 4] = 1.0
    found = scatter(still, ScatterConfig(), np.random.default_rng(0))
    np.testing.assert_array_equal(found, still)


def test_prefixes_are_as_long_as_latencies_or_any_where_none_would_do():
    delays = LatencyHistogram(latencies_s=(0.0, 0.1, 2.0), weights=(0.5, 0.3, 0.2))
    found = draw_prefix_rows(20000, 8, delays, np.random.default_rng(0))[:, 0]
    shares = np.bincount(found, minlength=9) / len(found)
    anything = 0.2 / 9
    assert shares[0] == pytest.approx(0.5 + anything, abs=0.02)
    assert shares[4] == pytest.approx(0.3 + anything, abs=0.02)  # 0.1 s: three rows and a bit
    assert shares[8] == pytest.approx(anything, abs=0.01)
    assert len(shares) == 9


def test_detours_begin_at_the_reference_and_lead_back_after_the_prefix():
    right = rows(2000)
    n_prefix = np.full((len(right), 1), 6)
    config = DetourConfig(detour_share=1.0, detour_m_s=0.03, return_s=0.1, slip_share=0.0)
    found = make_detours(right, n_prefix, config, np.random.default_rng(1))
    away = np.linalg.norm((found - right)[..., :3], axis=-1)
    assert away[:, 0].max() == 0.0
    assert np.sqrt(np.mean(away[:, 5] ** 2)) == pytest.approx(3**0.5 * 0.03 * 5 / 30, rel=0.05)
    assert (np.diff(away[:, :6], axis=1) >= 0.0).all()
    np.testing.assert_allclose(away[:, 15] / away[:, 5], np.exp(-10 / 3), rtol=1e-3)
    np.testing.assert_array_equal(found[..., 5], right[..., 5])


def test_detours_are_as_frequent_as_said_and_grippers_slip_within_the_prefix_alone():
    right = rows(4000)
    n_prefix = np.tile([[0], [4]], (2000, 1))
    config = DetourConfig(detour_share=0.5, slip_share=0.5)
    found = make_detours(right, n_prefix, config, np.random.default_rng(2))
    assert np.abs(found[::2] - right[::2]).max() < 1e-6
    is_led = np.abs(found[1::2] - right[1::2])[..., :3].max(axis=(1, 2)) > 1e-5
    slips = found[1::2, :, 5] != right[1::2, :, 5]
    assert is_led.mean() == pytest.approx(0.5, abs=0.05)
    assert slips[:, 0].mean() == pytest.approx(0.25, abs=0.05)
    assert not slips[:, 4:].any()
