# SPDX-License-Identifier: Apache-2.0
"""Every robot under the control host: holds, yields, follows, stops, with MuJoCo as the plant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from host_rig import speed
from robot_rig import RobotRig, angle_between, position
from robot_wheels import installed_robot

from vla_ros.control.arm_parts import PayloadConfig
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import RobotConfig, known_robots, load_robot
from vla_ros.embodiment.robot_parts import ModelSource
from vla_ros.errors import ConfigError
from vla_ros.types import ControlMode

pytestmark = pytest.mark.sim

HOME_DRIFT_M, HOME_DRIFT_RAD = 2e-4, 1e-3


@pytest.fixture(scope="module", params=known_robots())
def robot(request: pytest.FixtureRequest) -> RobotConfig:
    return installed_robot(request.param)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("arms")


@pytest.fixture
def rig(robot: RobotConfig, models) -> Iterator[RobotRig]:
    rig = RobotRig(robot, models)
    yield rig
    rig.check_torques()
    rig.close()


def follow(
    rig: RobotRig, direction: np.ndarray, distance_m: float, duration_s: float, stay_s: float = 1.0
) -> None:
    """Send one segment from rest to rest (a quintic) that then stays there."""
    start = np.array(rig.host.state()["ref_position"])

    def quintic(fields: dict) -> None:
        t_s = (fields["target_ns"] - fields["target_ns"][0]) * 1e-9
        u = np.clip(t_s / duration_s, 0.0, 1.0)
        way = 10 * u**3 - 15 * u**4 + 6 * u**5
        rate = (30 * u**2 - 60 * u**3 + 30 * u**4) / duration_s
        fields["positions"] = start + distance_m * np.outer(way, direction)
        fields["twists_base"][:, :3] = distance_m * np.outer(rate, direction)

    rig.grant()
    rig.send(duration_s=duration_s + stay_s, rows=63, edit=quintic)


def assert_holds(rig: RobotRig, duration_s: float) -> None:
    begin = rig.host.state()
    states = rig.run(duration_s)
    assert max(np.linalg.norm(position(s) - position(begin)) for s in states) < HOME_DRIFT_M
    assert max(angle_between(begin, s) for s in states[::10]) < HOME_DRIFT_RAD


def test_pose_is_held_against_gravity(rig: RobotRig) -> None:
    assert rig.host.state()["mode"] == ControlMode.IDLE
    assert_holds(rig, 2.0)


def test_random_poses_are_held_against_gravity(robot: RobotConfig, models) -> None:
    random = np.random.default_rng(3)
    low, high = np.array(robot.limits.q_min_rad), np.array(robot.limits.q_max_rad)
    for _ in range(5):
        q = random.uniform(low + 0.15 * (high - low), high - 0.15 * (high - low))
        # The posture goes with the pose: this is about weight, not about motion in the nullspace.
        rig = RobotRig(replace(robot, home_q=tuple(q), posture_q=()), models)
        assert_holds(rig, 2.0)
        rig.check_torques()
        rig.close()


def test_load_in_the_robot_file_is_carried(robot: RobotConfig, tmp_path) -> None:
    mass_kg = 0.3 if robot.name.startswith("g1") else 2.0
    load = PayloadConfig(
        mass_kg=mass_kg, com_m=(0.01, 0.02, 0.05), inertia_kg_m2=(2e-3, 2e-3, 1e-3, 0, 0, 0)
    )
    loaded = RobotRig(replace(robot, payload=load), tmp_path / "loaded")
    empty = RobotRig(robot, tmp_path / "empty")
    difference = np.array(loaded.host.state()["tau"]) - empty.host.state()["tau"]
    assert np.abs(difference).max() > 0.1  # the load is there at all
    assert_holds(loaded, 2.0)
    loaded.close()


def test_pushed_arm_yields_by_force_over_stiffness(rig: RobotRig) -> None:
    begin = position(rig.host.state())
    stiffness = rig.config.stiffness_trans
    size_n = min(10.0, 0.5 * stiffness * rig.config.error_clip_trans_m)
    for force in size_n * np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1.0]]):
        rig.push(force)
        rig.run(4.0)
        np.testing.assert_allclose(
            position(rig.host.state()) - begin, force / stiffness, atol=1e-4, rtol=0
        )
        rig.push(np.zeros(3))
        rig.run(4.0)
        np.testing.assert_allclose(position(rig.host.state()), begin, atol=1e-4, rtol=0)


def test_twisted_arm_turns_by_torque_over_stiffness(rig: RobotRig) -> None:
    begin = rig.host.state()
    rig.push([0, 0, 0, 0, 0, 0.05 * rig.config.stiffness_rot])
    rig.run(4.0)
    assert angle_between(begin, rig.host.state()) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_segment_of_50_mm_is_followed(rig: RobotRig, axis: int, sign: float) -> None:
    begin = rig.host.state()
    direction = sign * np.eye(3)[axis]
    follow(rig, direction, 0.05, 1.0)
    states = rig.run(1.95)
    assert states[-1]["mode"] == ControlMode.TRACK
    assert np.linalg.norm(position(states[-1]) - position(begin) - 0.05 * direction) < 1e-3
    assert angle_between(begin, states[-1]) < 1e-3
    lag = max(np.linalg.norm(position(s) - s["ref_position"]) for s in states)
    assert lag < 3e-3
    assert rig.host.counters()["accepted"] == 1
    assert rig.host.counters()["torque_limited_ticks"] == 0


def test_blocked_arm_presses_no_harder_than_stiffness_times_clip(rig: RobotRig) -> None:
    begin = position(rig.host.state())
    wall_n_m, wall_n_s_m = 2e4, 200.0
    follow(rig, np.array([1.0, 0, 0]), 0.08, 2.0, stay_s=6.0)
    pressed_n = 0.0
    for _ in range(int(7.9 * rig.config.rate_hz)):
        state = rig.host.state()
        depth_m = position(state)[0] - begin[0]
        pressed_n = max(0.0, wall_n_m * depth_m + wall_n_s_m * state["twist"][0])
        rig.push([-pressed_n if depth_m > 0 else 0.0, 0, 0])
        rig.run(1.0 / rig.config.rate_hz)
    clip_n = rig.config.stiffness_trans * rig.config.error_clip_trans_m
    assert rig.host.state()["ref_position"][0] - begin[0] > 1.5 * rig.config.error_clip_trans_m
    assert pressed_n == pytest.approx(clip_n, abs=1e-3)


@pytest.mark.parametrize("end", ["stop", "expiry", "lease"])
def test_moving_arm_comes_to_rest_and_stays(rig: RobotRig, end: str) -> None:
    rig.grant(lease_s=0.3 if end == "lease" else 100.0)
    rig.send(velocity=(0, 0, 0.2), duration_s=2.0, expire_s=0.3 if end == "expiry" else 100.0)
    states = rig.run(0.3)
    assert speed(states[-1]) > 0.15
    if end == "stop":
        rig.host.stop()
    states = rig.run(0.5)
    expected = ControlMode.STOPPED if end == "stop" else ControlMode.HOLD
    assert states[-1]["mode"] == expected
    assert speed(states[-1]) < 0.005
    # 0.2 m/s at 3 m/s² is 7 mm, and the arm lags behind its reference.
    travelled = position(states[-1]) - position(states[0])
    assert np.linalg.norm(travelled) < 0.02
    rest = position(states[-1])
    rig.run(1.5)
    # A damping ratio of 1.4 lets the last of the hand's rotation go slowly.
    assert np.linalg.norm(position(rig.host.state()) - rest) < 1e-3
    assert speed(rig.host.state()) < 5e-4
    assert rig.host.counters()["rows_after_expiry"] == 0


def test_torque_limit_of_the_robot_file_is_kept_when_more_is_wanted(
    robot: RobotConfig, tmp_path
) -> None:
    rig = RobotRig(robot, tmp_path)
    weight = np.abs(rig.host.state()["tau"])
    rig.close()
    # Motors that carry the arm and can do little besides.
    limits = replace(robot.limits, tau_max_nm=tuple(1.1 * weight + 0.3))
    weak = RobotRig(replace(robot, limits=limits), tmp_path / "weak")
    for push_n in ([60.0, 0, 0], [0, 60.0, 0], [0, 0, -60.0], [0, 0, 0]):
        weak.push(push_n)
        weak.run(0.3)
    assert weak.host.counters()["torque_limited_ticks"] > 100
    weak.check_torques()
    weak.close()


def test_urdf_of_one_s_own_is_found_beside_its_robot_file(tmp_path) -> None:
    ur5e = load_robot("ur5e")
    (tmp_path / "mine.urdf").write_text(arm_of(ur5e).urdf_xml, encoding="utf-8")
    mine = replace(ur5e, model=ModelSource(urdf="mine.urdf"), file=tmp_path / "mine.yaml")
    assert arm_of(mine).urdf_xml == arm_of(ur5e).urdf_xml
    with pytest.raises(ConfigError, match="other"):
        arm_of(replace(mine, model=ModelSource(urdf="other.urdf")))
