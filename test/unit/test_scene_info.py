# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_cell import load_info

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.sim.scene_info import SceneInfo


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    info = load_info()
    info.save(tmp_path / "info.json")
    assert SceneInfo.load(tmp_path / "info.json") == info


def test_tcp_pose_at_home_points_down() -> None:
    info = load_info()
    T = info.tcp_pose(np.array(info.home_qpos))
    np.testing.assert_allclose(T[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-3)
    np.testing.assert_allclose(T[:3, 3], [0.3069, 0.0, 0.4868], atol=1e-3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1, "nq": 3}'])
def test_from_json_refuses_other_texts(text: str) -> None:
    with pytest.raises(ConfigError):
        SceneInfo.from_json(text)


def test_load_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        SceneInfo.load(tmp_path / "none.json")


def test_check_state_wrong_length_raises() -> None:
    info = load_info()
    with pytest.raises(ShapeError, match="qpos"):
        info.check_state(np.zeros(3))
    with pytest.raises(ShapeError, match="qvel"):
        info.check_state(np.zeros(info.nq), np.zeros(info.nq + 1))
