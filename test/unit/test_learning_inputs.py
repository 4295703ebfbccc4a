# SPDX-License-Identifier: Apache-2.0
"""What the model is shown and what its rows mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from admission_samples import state
from onnx_samples import frame

from vla_ros.errors import PolicyError, ShapeError
from vla_ros.geometry import make_pose, rotation_about_z
from vla_ros.learning import views
from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.manifest import ACTIONS, describe_tensors
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.relative_rows import CHUNK_DT_NS, CHUNK_ROWS, from_chunk
from vla_ros.learning.state_vector import (
    EE_POSITION,
    GRIPPER_TARGET,
    REF_POSITION,
    REF_YAW_RATE,
    STATE_CENTRE,
    STATE_SCALE,
    STATE_SIZE,
    state_vector,
    yaw_of,
)
from vla_ros.policies.images import write_image

DOWN = np.diag([1.0, -1.0, -1.0])


def test_cells_look_where_points_on_the_table_are_seen():
    grid = views.table_grid().reshape(-1, 2)
    points = np.column_stack([grid, np.full(len(grid), views.PLANE_Z_M)])
    assert (views.cell_of(points.astype(np.float64)) == np.arange(len(grid))).all()
    assert views.cell_of(np.array([[-0.5, 0.0, 0.0]]))[0] == -1


def test_all_of_the_layout_s_area_is_in_view():
    corners = [[x, y, 0.02] for x in (0.30, 0.66) for y in (-0.34, 0.34)]
    assert (views.cell_of(np.array(corners)) >= 0).all()


def test_images_are_cut_and_shrunk_without_the_rows_of_the_tick_code():
    image = np.zeros((224, 224, 3), dtype=np.uint8)
    image[-8:] = 255
    image[96, 5] = 7
    image[0:4, 0:4] = 100
    assert views.crop_scene(image).shape == (112, 224, 3)
    assert views.crop_scene(image)[0, 5, 0] == 7
    assert views.crop_scene(image).max() == 7
    assert views.shrink_wrist(image).shape == (52, 56, 3)
    assert views.shrink_wrist(image)[0, 0, 0] == 100
    assert views.shrink_wrist(image).max() == 100


def test_image_of_another_size_is_refused():
    with pytest.raises(ShapeError):
        views.crop_scene(np.zeros((128, 128, 3), dtype=np.uint8))


def turned(yaw: float):
    pose = make_pose(np.array([0.4, 0.1, 0.3]), rotation_about_z(yaw) @ DOWN)
    return dataclasses.replace(state(), T_base_ref=pose, T_base_ee=pose)


def test_rows_become_poses_and_poses_become_the_same_rows():
    now, random = turned(0.4), np.random.default_rng(0)
    actions = 0.1 * random.normal(size=(16, 6))
    turns = random.uniform(-1.0, 1.0, 16)
    actions[:, 3], actions[:, 4] = 2.0 * np.sin(turns), 2.0 * np.cos(turns)
    actions[:, 5] = np.linspace(0.0, 0.08, 16)
    chunk = ACTIONS.to_rows(actions, now, target0_ns=ACTIONS.target0_ns(now))
    assert (chunk.target0_ns, chunk.dt_ns, chunk.horizon) == (now.tick_ns, CHUNK_DT_NS, CHUNK_ROWS)
    np.testing.assert_allclose(np.linalg.norm(chunk.quats_xyzw, axis=1), 1.0)
    ref = np.array([*now.T_base_ref[:3, 3], yaw_of(now.T_base_ref[:3, :3])])
    back = from_chunk(chunk.positions, chunk.quats_xyzw, chunk.gripper_width_m, ref)
    np.testing.assert_allclose(back[:, :3], actions[:, :3], atol=1e-12)
    np.testing.assert_allclose(np.arctan2(back[:, 3], back[:, 4]), turns, atol=1e-12)
    np.testing.assert_allclose(back[:, 5], actions[:, 5])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(value):
    actions = np.zeros((16, 6))
    actions[:, 4] = 1.0
    actions[3, 0] = value
    with pytest.raises(PolicyError, match=r"row 3 is .* m away"):
        ACTIONS.to_rows(actions, turned(0.0), target0_ns=0)


def test_rows_that_point_nowhere_are_refused():
    with pytest.raises(PolicyError, match="points nowhere"):
        ACTIONS.to_rows(np.zeros((16, 6)), turned(0.0), target0_ns=0)


def test_runtime_shows_the_wrist_image_as_the_model_was_trained_on():
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    small = describe_tensors(ModelConfig())["fast", "image"]
    shown = np.zeros(small["shape"][1:], dtype=np.uint8)
    seen = dataclasses.replace(frame("wrist_camera", size=224), rgb=image)
    write_image(seen, shown, crop_px=tuple(small["crop_px"]), resize=small["resize"])
    np.testing.assert_array_equal(shown, views.shrink_wrist(image))


def test_state_vector_has_its_fields_where_the_model_looks_for_them():
    now = dataclasses.replace(turned(0.3), twist_ref_base=np.arange(6.0), gripper_target_m=0.01)
    vector = state_vector(now)
    assert vector.shape == (STATE_SIZE,) == (len(STATE_CENTRE),) == (len(STATE_SCALE),)
    np.testing.assert_allclose(vector[REF_POSITION], [0.4, 0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(vector[EE_POSITION], [0.4, 0.1, 0.3], rtol=1e-6)
    assert vector[REF_YAW_RATE] == 5.0
    assert vector[GRIPPER_TARGET] == np.float32(0.01)


def test_ages_are_drawn_as_dense_as_the_density_says():
    histogram = LatencyHistogram(latencies_s=(0.0, 1.0), weights=(1.0, 3.0), period_s=0.1)
    at = np.arange(-0.5, 3.0, 1e-3)
    assert np.sum(histogram.density(at)) * 1e-3 == pytest.approx(1.0, abs=0.01)
    assert histogram.density(np.array([-0.1, 0.05, 0.5, 1.5, 2.2]))[[0, 2, 4]].tolist() == [0] * 3
    random = np.random.default_rng(0)
    ages = np.array([histogram.draw(random) for _ in range(4000)])
    assert np.mean(ages >= 1.0) == pytest.approx(0.75, abs=0.03)
    assert (histogram.density(ages) > 0.0).all()
