# SPDX-License-Identifier: Apache-2.0
"""Every preset does on the simulated FR3 what its name promises."""

import numpy as np
import pytest
from host_rig import HostRig, speed

from vla_ros.control.config import ControlConfig
from vla_ros.control.law_settings import to_law_config
from vla_ros.control.presets import load_preset
from vla_ros.sim.plant import FR3_JOINTS, fr3_arm
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout

pytestmark = pytest.mark.sim
BODY = "fr3_hand_tcp"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    model = build_scene()
    path = tmp_path_factory.mktemp("scene") / "scene.mjb"
    save_model(model, path)
    return path, describe_scene(model)


@pytest.fixture
def begin(scene):
    """Return a function that starts the arm under a preset; ``topic`` leads."""
    rigs = []

    def start(preset: str) -> HostRig:
        path, info = scene
        rig = HostRig(path, ControlConfig())
        rigs.append(rig)
        rig.plant.request_reset(list(apply_layout(info, sample_layout(1))))
        rig.run(0.3)
        rig.host.set_law(to_law_config(load_preset(preset), fr3_arm()))
        rig.run(1.0)
        rig.grant(source="topic")
        rig.run(0.01)
        return rig

    yield start
    for rig in rigs:
        rig.close()


def place(rig) -> np.ndarray:
    return np.array(rig.host.state()["position"])


def pushed(rig, force, duration_s=2.0) -> np.ndarray:
    """Return how far a force [N] at the hand moves it."""
    before = place(rig)
    rig.plant.set_external_force("hand", [*force, 0.0, 0.0, 0.0])
    rig.run(duration_s)
    moved = place(rig) - before
    rig.plant.set_external_force("hand", [0.0] * 6)
    return moved


def follow(rig, send, duration_s, rate_hz=50):
    """Call ``send(t)`` at ``rate_hz`` in virtual time; return the states in between."""
    states = []
    for k in range(round(duration_s * rate_hz)):
        assert send(k / rate_hz) == ""
        states += rig.run(1 / rate_hz)
    return states


@pytest.mark.parametrize("name", ["default", "no_friction"])
def test_default_yields_by_force_over_stiffness(begin, name):
    moved = pushed(begin(name), [0.0, 10.0, 0.0])
    assert 0.005 < moved[1] < 0.014  # 10 mm, less joint friction, at the hand's centre
    assert abs(moved[0]) < 0.003


def test_soft_yields_more_than_default_and_comes_back(begin):
    soft = begin("soft")
    start = place(soft)
    moved = pushed(soft, [0.0, 5.0, 0.0], 3.0)
    assert 0.012 < moved[1] < 0.035
    soft.run(3.0)
    assert np.linalg.norm(place(soft) - start) < 0.012  # what joint friction leaves


def test_stiff_clipped_is_exact_and_gives_way_beyond_25_newton(begin):
    rig = begin("stiff_clipped")
    assert np.linalg.norm(pushed(rig, [0.0, 15.0, 0.0])) < 0.008
    rig.run(1.0)
    # 40 N overcome a spring that never pulls harder than 25 N: the arm is led away.
    assert pushed(rig, [0.0, 40.0, 0.0], 3.0)[1] > 0.03


def test_operational_space_responds_alike_in_every_direction(begin):
    rig = begin("operational_space")
    start = place(rig)
    quat = rig.host.state()["ref_quat_xyzw"]
    for axis in range(3):
        step = 0.03 * np.eye(3)[axis]
        follow(rig, lambda t, step=step: rig.host.set_target_pose(list(start + step), quat), 1.5)
        np.testing.assert_allclose(place(rig) - start, step, atol=2e-3)
        follow(rig, lambda t: rig.host.set_target_pose(list(start), quat), 1.5)


def test_hand_guiding_goes_with_the_hand_and_stays(begin):
    rig = begin("hand_guiding")
    before = place(rig)
    rig.run(1.0)
    assert np.linalg.norm(place(rig) - before) < 0.002  # carries itself
    led = pushed(rig, [0.0, 10.0, 0.0], 0.5)
    assert led[1] > 0.03
    rig.run(4.0)  # glides out
    rest = place(rig)
    rig.run(1.0)
    assert np.linalg.norm(place(rig) - rest) < 0.005
    assert speed(rig.host.state()) < 0.01
    # A spring that appears holds the arm here and does not pull it back.
    rig.host.set_law(to_law_config(load_preset("default"), fr3_arm()))
    rig.run(2.0)
    assert np.linalg.norm(place(rig) - rest) < 0.01


def test_on_a_plane_is_free_in_it_and_firm_across(begin):
    rig = begin("on_a_plane")
    across = pushed(rig, [0.0, 0.0, 10.0])
    assert abs(across[2]) < 0.014
    rig.run(1.0)
    along = pushed(rig, [0.0, 20.0, 0.0], 1.5)
    assert abs(along[1]) > 0.05
    assert abs(along[2]) < 0.005


def test_joint_control_reaches_joint_targets(begin):
    rig = begin("joint_control")
    goal = np.array(rig.host.state()["q"]) + np.array([0.3, -0.2, 0.1, 0.2, -0.3, 0.2, 0.4])
    states = follow(rig, lambda t: rig.host.set_target_joint(list(FR3_JOINTS), list(goal)), 3.0)
    np.testing.assert_allclose(states[-1]["q"], goal, atol=0.015)
    assert np.abs([s["dq"] for s in states]).max() < 2.0


def test_follow_force_moves_along_the_tool_only(begin):
    rig = begin("follow_force")
    before = place(rig)
    rig.run(0.5)
    assert np.linalg.norm(place(rig) - before) < 0.003
    start = place(rig)

    def push(t):
        return rig.host.set_target_wrench([0, 0, 8.0, 0, 0, 0], frame=BODY)

    states = follow(rig, push, 1.0)
    moved = place(rig) - start
    z_tool = tool_axis(states[-1]["quat_xyzw"])
    along = moved @ z_tool
    assert along > 0.02
    assert np.linalg.norm(moved - along * z_tool) < 0.006
    # Without a new wrench the push ends.
    rig.run(2.5)
    assert speed(rig.host.state()) < 0.01


def tool_axis(quat_xyzw):
    x, y, z, w = quat_xyzw
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
