# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from synthetic_cell import draw_cell

from vla_ros.errors import ShapeError
from vla_ros.perception import tabletop
from vla_ros.perception.tabletop import Workspace
from vla_ros.policies.colors import COLOURS
from vla_ros.sim.tasks import sample_layout


def test_find_coloured_points_reports_hues_and_heights() -> None:
    layout = sample_layout(0)
    seen = tabletop.find_coloured_points(draw_cell(layout), Workspace())
    for colour, (x, y, _) in layout.cubes.items():
        points = seen.of_hue(COLOURS[colour].hue_deg, COLOURS[colour].hue_tolerance_deg)
        assert len(points) > 40
        assert np.abs(points[:, :2] - [x, y]).max() < 0.035
        assert points[:, 2].max() == pytest.approx(0.04, abs=1e-3)


def test_colours_do_not_overlap_in_hue() -> None:
    hues = sorted((c.hue_deg, c.hue_tolerance_deg) for c in COLOURS.values())
    for (a, a_tolerance), (b, b_tolerance) in pairwise(hues):
        assert a + a_tolerance < b - b_tolerance
    assert hues[-1][0] + hues[-1][1] < hues[0][0] + 360 - hues[0][1]


def test_find_coloured_points_without_depth_raises() -> None:
    frame = dataclasses.replace(draw_cell(sample_layout(0)), depth_m=None)
    with pytest.raises(ShapeError, match="depth"):
        tabletop.find_coloured_points(frame, Workspace())


@pytest.mark.parametrize("count", [0, 5])
def test_fits_return_none_for_too_few_points(count: int) -> None:
    points, camera = np.zeros((count, 3)), np.array([1.0, 0.0, 1.0])
    assert tabletop.fit_cube(points, camera, 0.04) is None
    assert tabletop.fit_bowl(points + np.array([0, 0, 0.03]), camera, (0.068, 0.072), 0.045) is None


def test_fit_bowl_rejects_what_is_not_a_ring() -> None:
    random = np.random.default_rng(0)
    points = random.uniform(-0.07, 0.07, (400, 3)) * [1, 1, 0.2] + [0.5, 0.0, 0.03]
    camera = np.array([1.0, 0.0, 1.0])
    assert tabletop.fit_bowl(points, camera, (0.068, 0.072), 0.045) is None


def test_project_inverts_back_projection() -> None:
    frame = draw_cell(sample_layout(0))
    assert frame.depth_m is not None
    seen = tabletop.find_coloured_points(frame, Workspace())
    pixels, depth = tabletop.project(frame, seen.points)
    column, row = np.floor(pixels).astype(int).T
    np.testing.assert_allclose(pixels, np.floor(pixels) + 0.5, atol=1e-3)
    np.testing.assert_allclose(depth, frame.depth_m[row, column], atol=1e-5)


def test_silhouette_area_of_a_square_is_its_area() -> None:
    frame = draw_cell(sample_layout(0))
    k, T = frame.intrinsics, frame.T_base_camera
    corners = np.array([[-0.1, -0.1, 1.0], [0.1, -0.1, 1.0], [0.1, 0.1, 1.0], [-0.1, 0.1, 1.0]])
    area = tabletop.silhouette_area_px(frame, corners @ T[:3, :3].T + T[:3, 3])
    assert area == pytest.approx(0.04 * k.fx * k.fy)


def test_fraction_seen_through_tells_present_from_absent() -> None:
    layout = sample_layout(0)
    frame = draw_cell(layout)
    x, y, yaw = layout.cubes["red"]
    top = tabletop.cube_corners(np.array([x, y, 0.02]), yaw, 0.03)[4:] + np.array([0, 0, 0.005])
    assert tabletop.fraction_seen_through(frame, top) == 0.0
    assert tabletop.fraction_seen_through(frame, top + np.array([0.0, 0.0, 0.08])) == 1.0
    outside = top + np.array([0.0, 3.0, 0.0])
    assert tabletop.fraction_seen_through(frame, outside) == 0.0
