# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rendered_cell import INFO, MODEL, skip_without_opengl

pytest.importorskip("mujoco")
if importlib.util.find_spec("franky_sim") is None:
    pytest.skip("the FR3 model is not installed", allow_module_level=True)


from vla_ros.errors import ConfigError
from vla_ros.perception import tabletop, tick_code
from vla_ros.perception.camera_config import FR3_CAMERAS
from vla_ros.policies.classical_slow import ClassicalSlowPolicy
from vla_ros.policies.colors import COLOURS
from vla_ros.policies.instruction import ALL_GOALS
from vla_ros.sim.rendering import SceneRenderer
from vla_ros.sim.scene import save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import CameraFrame, ControlMode, Observation, RobotState

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def renderer() -> Iterator[SceneRenderer]:
    skip_without_opengl()
    with SceneRenderer(MODEL, INFO.cameras) as renderer:
        yield renderer


def _observation(frames: dict[str, CameraFrame], qpos: np.ndarray, text: str) -> Observation:
    T_base_ee = INFO.tcp_pose(qpos)
    state = RobotState(
        seq=1,
        tick_ns=1,
        mode=ControlMode.HOLD,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=T_base_ee,
        twist_base=np.zeros(6),
        T_base_ref=T_base_ee,
        twist_ref_base=np.zeros(6),
        gripper_width_m=0.08,
        gripper_target_m=0.08,
    )
    return Observation(state=state, instruction=text, instruction_id=1, episode_id=1, frames=frames)


def test_render_returns_both_cameras_with_calibration(renderer: SceneRenderer) -> None:
    frames = renderer.render(np.array(INFO.home_qpos), None, 5_000_000)
    assert list(frames) == [camera.name for camera in FR3_CAMERAS]
    for camera in FR3_CAMERAS:
        frame = frames[camera.name]
        assert frame.capture_ns == 5_000_000
        assert frame.intrinsics == camera.intrinsics
        assert tick_code.decode(frame.rgb) == 5_000_000
        R = frame.T_base_camera[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(R) == pytest.approx(1.0)


def test_scene_camera_is_where_its_configuration_says(renderer: SceneRenderer) -> None:
    frame = renderer.render(np.array(INFO.home_qpos), None, 0)["scene_camera"]
    config = FR3_CAMERAS[0]
    np.testing.assert_allclose(frame.T_base_camera[:3, 3], config.position_m, atol=1e-9)
    axis = np.subtract(config.look_at_m, config.position_m)
    np.testing.assert_allclose(frame.T_base_camera[:3, 2], axis / np.linalg.norm(axis), atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_cubes_appear_where_the_calibration_projects_them(
    renderer: SceneRenderer, seed: int
) -> None:
    layout = sample_layout(seed)
    frame = renderer.render(apply_layout(INFO, layout), None, 0)["scene_camera"]
    for colour, (x, y, yaw) in layout.cubes.items():
        corners = tabletop.cube_corners(np.array([x, y, 0.02]), yaw, INFO.cube_side_m)
        pixels, _ = tabletop.project(frame, corners)
        rows, columns = np.nonzero(_mask_of(frame, colour))
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = [*pixels.min(axis=0), *pixels.max(axis=0)]
        np.testing.assert_allclose(seen, expected, atol=1.0)


@pytest.mark.parametrize("seed", range(10))
def test_depth_is_metric(renderer: SceneRenderer, seed: int) -> None:
    layout = sample_layout(seed)
    frame = renderer.render(apply_layout(INFO, layout), None, 0)["scene_camera"]
    assert frame.depth_m is not None
    for x, y, _ in layout.cubes.values():
        # The ray through the pixel of the top's centre, cut with the plane of the top.
        pixel, _ = tabletop.project(frame, np.array([[x, y, INFO.cube_side_m]]))
        column, row = np.floor(pixel[0]).astype(int)
        k, T = frame.intrinsics, frame.T_base_camera
        ray = T[:3, :3] @ [(column + 0.5 - k.cx) / k.fx, (row + 0.5 - k.cy) / k.fy, 1.0]
        expected = (INFO.cube_side_m - T[2, 3]) / ray[2]
        assert frame.depth_m[row, column] == pytest.approx(expected, abs=0.002)


def test_wrist_camera_sees_the_cube_between_the_fingers(renderer: SceneRenderer) -> None:
    qpos = np.array(INFO.home_qpos)
    start = INFO.cube_qpos["red"]
    qpos[start : start + 3] = INFO.tcp_pose(qpos)[:3, 3]
    frame = renderer.render(qpos, None, 0)["wrist_camera"]
    pixels, _ = tabletop.project(frame, qpos[None, start : start + 3])
    column, row = np.floor(pixels[0]).astype(int)
    assert _mask_of(frame, "red")[row, column]


def test_render_follows_the_state_without_memory(renderer: SceneRenderer) -> None:
    one, two = (apply_layout(INFO, sample_layout(seed)) for seed in (1, 2))
    first = renderer.render(one, None, 0)["scene_camera"]
    renderer.render(two, None, 0)
    again = renderer.render(one, None, 0)["scene_camera"]
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)


def test_saved_model_renders_the_same(renderer: SceneRenderer, tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "scene.mjb")
    qpos = np.array(INFO.home_qpos)
    with SceneRenderer(tmp_path / "scene.mjb", ["scene_camera"], tick_code=False) as other:
        frame = other.render(qpos, None, 0)["scene_camera"]
    with pytest.raises(ConfigError, match="closed"):
        other.render(qpos, None, 0)
    expected = renderer.render(qpos, None, 0)["scene_camera"]
    np.testing.assert_array_equal(frame.rgb[:-8], expected.rgb[:-8])


def test_wrong_camera_or_state_raises(renderer: SceneRenderer) -> None:
    with pytest.raises(ConfigError, match="scene_camera"):
        SceneRenderer(MODEL, ["front"])
    with pytest.raises(ConfigError, match="qpos"):
        renderer.render(np.zeros(3), None, 0)


def test_slow_policy_is_accurate_over_200_layouts(renderer: SceneRenderer) -> None:
    cube_m, yaw_deg, bowl_m, confidence = [], [], [], []
    for seed in range(200):
        layout, goal = sample_layout(seed), ALL_GOALS[seed % 8]
        qpos = apply_layout(INFO, layout)
        frames = renderer.render(qpos, None, 10**9)
        out = ClassicalSlowPolicy().encode(_observation(frames, qpos, goal.text))
        x, y, yaw = layout.cubes[goal.cube_colour]
        error = float(out["pick_yaw"][0]) - yaw
        cube_m.append(math.dist(out["pick_position"], (x, y, 0.02)))
        yaw_deg.append(abs(math.degrees((error + math.pi / 4) % (math.pi / 2) - math.pi / 4)))
        bowl_m.append(math.dist(out["place_position"][:2], layout.bowls[goal.bowl_colour]))
        confidence.append(min(out["pick_confidence"][0], out["place_confidence"][0]))
    assert np.quantile(cube_m, 0.95) <= 0.005
    assert np.quantile(yaw_deg, 0.95) <= 5.0
    assert np.quantile(bowl_m, 0.95) <= 0.008
    assert max(cube_m) <= 0.008
    assert min(confidence) > 0.8


def _mask_of(frame: CameraFrame, colour: str) -> np.ndarray:
    """Return where (H, W) the hue of a colour is seen, by a formula of its own."""
    rgb = frame.rgb.astype(float) / 255
    surface = np.array(COLOURS[colour].rgb)
    norm = np.linalg.norm(rgb, axis=2) * np.linalg.norm(surface)
    cosine = np.where(norm > 0.05, rgb @ surface / np.maximum(norm, 1e-9), 0.0)
    mask = cosine > 0.985
    mask[-tick_code.CODE_ROWS :] = False
    return np.asarray(mask)
