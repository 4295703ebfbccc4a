# SPDX-License-Identifier: Apache-2.0
"""What the flow head is trained on: labels that scatter, prefixes as long as latencies."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.flow_config import ScatterConfig
from vla_ros.learning.flow_data import draw_prefix_rows, scatter


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
