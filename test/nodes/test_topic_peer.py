# SPDX-License-Identifier: Apache-2.0
"""The topic that the ring is compared with, and the experiment with both."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

from vla_ros.bench import buffer_experiment as experiment

pytestmark = pytest.mark.ros


def test_experiment_writes_its_three_files(tmp_path: Path) -> None:
    means = [m for m in experiment.MEANS if m.name in ("ring_waiting", "topic")]
    rows = experiment.run(
        tmp_path, sizes=((4096, 5), (1_000_000, 3)), means=means, loads=("idle",), reads=0
    )
    assert [(r.strategy, r.bytes) for r in rows] == [
        ("none", 0),
        ("ring_waiting", 4096),
        ("topic", 4096),
        ("ring_waiting", 1_000_000),
        ("topic", 1_000_000),
    ]
    assert all(r.torn == 0 for r in rows)
    assert {p.name for p in tmp_path.iterdir()} == {"buffer.csv", "buffer.md", "buffer.svg"}
