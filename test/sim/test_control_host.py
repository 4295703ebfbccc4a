# SPDX-License-Identifier: Apache-2.0
"""What the control host does by itself: track by time, brake, hold, refuse, stop."""

import numpy as np
import pytest
from host_rig import HostRig, speed

from vla_ros.clock import NS_PER_MS
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_host
from vla_ros.errors import ConfigError
from vla_ros.sim.plant import fr3_arm
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import ControlMode

pytestmark = pytest.mark.sim
LIMIT = np.array([87.0] * 4 + [12.0] * 3)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    model = build_scene()
    path = tmp_path_factory.mktemp("scene") / "scene.mjb"
    save_model(model, path)
    return path, describe_scene(model)


@pytest.fixture
def rig(scene):
    path, info = scene
    rig = HostRig(path)
    rig.plant.request_reset(list(apply_layout(info, sample_layout(1))))
    rig.run(0.3)
    rig.states.clear()
    yield rig
    taus = np.array([s["tau"] for s in rig.states])
    if len(taus) > 1:
        # Whatever happened: torque stayed finite, within its limit and within its rate.
        assert np.isfinite(taus).all()
        assert (np.abs(taus) <= LIMIT + 1e-9).all()
        assert np.abs(np.diff(taus, axis=0)).max() <= 1.0 + 1e-9
    rig.close()


def test_rows_are_executed_at_their_time(rig):
    rig.grant()
    rig.send(velocity=(0, 0.1, 0), duration_s=2.0)
    start = np.array(rig.host.state()["ref_position"])
    states = rig.run(1.0)
    assert states[-1]["mode"] == ControlMode.TRACK
    np.testing.assert_allclose(np.array(states[-1]["ref_position"]) - start, [0, 0.1, 0], atol=5e-4)
    error = np.array(states[-1]["ref_position"]) - states[-1]["position"]
    assert np.linalg.norm(error) < 0.006


def test_reference_is_continuous_when_a_segment_jumps(rig):
    rig.grant()
    rig.send()
    rig.run(0.5)
    rig.send(offset=(0.03, 0, 0))
    states = rig.run(0.5)
    steps = np.diff([s["ref_position"] for s in states], axis=0)
    assert np.linalg.norm(steps, axis=1).max() <= rig.config.max_speed_m_s * 1e-3 + 1e-9


def test_arm_rests_within_half_a_second_of_hard_expiry(rig):
    rig.grant()
    rig.send(velocity=(0, 0.4, 0), duration_s=1.0, expire_s=0.5)
    rig.run(0.5)
    states = rig.run(0.5)
    assert speed(states[-1]) < 0.005
    assert states[-1]["mode"] == ControlMode.HOLD
    assert rig.host.counters()["rows_after_expiry"] == 0
    assert rig.host.counters()["expired_brakes"] == 1


def test_reference_slows_down_between_soft_and_hard_expiry_and_rests_there(rig):
    rig.grant()
    soft_ns = rig.now_ns + 300 * NS_PER_MS
    rig.send(velocity=(0, 0.3, 0), duration_s=2.0, expire_s=0.9, soft_expire_ns=soft_ns)
    states = rig.run(0.9)
    speeds = np.array([np.linalg.norm(s["ref_twist"][:3]) for s in states])
    wanted = 0.3 * (1.0 - np.clip(np.arange(900) - 300, 0, None) / 600)
    np.testing.assert_allclose(speeds[250:], wanted[250:], atol=2e-3)
    assert np.diff(speeds[250:]).max() < 1e-6
    rest = rig.run(0.2)
    assert rest[5]["mode"] == ControlMode.HOLD
    assert speed(rest[-1]) < 0.005
    assert rig.host.counters()["rows_after_expiry"] == 0


def test_segment_ends_with_its_stamp_if_that_is_earlier(rig):
    rig.grant()
    at_ns = rig.now_ns + 200 * NS_PER_MS
    rig.send(velocity=(0, 0.1, 0), expire_s=5.0, hard_expire_ns=at_ns, clock_err_ns=50 * NS_PER_MS)
    states = rig.run(0.4)
    tracked = [s["tick_ns"] for s in states if s["mode"] == ControlMode.TRACK]
    assert max(tracked) == at_ns - 50 * NS_PER_MS


def test_rows_of_the_old_instruction_last_no_longer_than_braking(rig):
    rig.grant(instruction=7)
    rig.send(velocity=(0, 0.15, 0), instruction_id=7)
    rig.run(0.5)
    changed_ns = rig.now_ns
    rig.grant(instruction=8)
    states = rig.run(0.5)
    tracked = [s["tick_ns"] for s in states if s["mode"] == ControlMode.TRACK]
    braking_ns = 0.15 / rig.config.brake_m_s2 * 1e9
    assert 0.9 * braking_ns < max(tracked) - changed_ns <= 1.05 * braking_ns
    assert speed(states[-1]) < 0.005


def test_segment_of_another_instruction_is_refused_and_moves_nothing(rig):
    rig.grant(instruction=8)
    for instruction in (0, 7):
        rig.send(instruction_id=instruction)
        assert rig.run(0.1)[-1]["mode"] == ControlMode.IDLE
    assert rig.host.counters()["rejected"]["other instruction"] == 2
    rig.send(instruction_id=8)
    assert rig.run(0.1)[-1]["mode"] == ControlMode.TRACK


def test_new_instruction_goes_on_without_braking_when_its_rows_are_there_in_time(rig):
    rig.grant(instruction=7)
    rig.send(velocity=(0, 0.3, 0), instruction_id=7)
    rig.run(0.3)
    rig.grant(instruction=8)
    rig.run(0.03)
    rig.send(velocity=(0, 0.3, 0), instruction_id=8)
    assert {s["mode"] for s in rig.run(0.5)} == {ControlMode.TRACK}


def test_arm_rests_when_rows_run_out(rig):
    rig.grant()
    rig.send(velocity=(0, 0.3, 0), duration_s=0.5)
    rig.run(0.5)
    states = rig.run(0.5)
    assert speed(states[-1]) < 0.005


def test_arm_rests_when_the_lease_runs_out_and_moves_on_when_it_returns(rig):
    rig.grant(lease_s=0.2)
    rig.send(velocity=(0, 0.3, 0), duration_s=3.0)
    rig.run(0.2)
    states = rig.run(0.5)
    assert states[0]["mode"] == ControlMode.BRAKE
    assert speed(states[-1]) < 0.005
    rig.grant()
    rig.run(0.01)
    rig.send(velocity=(0, 0.1, 0))
    assert rig.run(0.3)[-1]["mode"] == ControlMode.TRACK


def test_hold_begins_where_the_arm_is(rig):
    rig.grant()
    rig.send(velocity=(0, 0.3, 0), duration_s=0.5)
    states = rig.run(1.5)
    gap = np.array(states[-1]["ref_position"]) - states[-1]["position"]
    assert np.linalg.norm(gap) < 0.003


def set_value(field, index, value):
    def edit(fields):
        fields[field][index] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (set_value("positions", (3, 1), np.nan), "not finite"),
        (set_value("twists_base", (0, 5), np.inf), "not finite"),
        (set_value("gripper_width_m", 2, np.nan), "not finite"),
        (set_value("quats_xyzw", 4, [0, 0, 0, 2.0]), "quaternion not unit"),
        (set_value("quats_xyzw", 4, [0, 0, 0, 0.0]), "quaternion not unit"),
        (set_value("target_ns", 5, 0), "row times do not increase"),
        (set_value("positions", (8, 0), 5.0), "rows faster than allowed"),
        (set_value("positions", slice(None), 1e200), "too far from the reference"),
        (set_value("target_ns", 0, -1), "row times do not increase"),
    ],
)
def test_bad_segment_is_refused_with_a_reason_and_moves_nothing(rig, edit, reason):
    rig.grant()
    rig.send(edit=edit)
    states = rig.run(0.2)
    assert rig.host.counters()["rejected"][reason] == 1
    assert states[-1]["mode"] == ControlMode.IDLE
    assert speed(states[-1]) < 0.005


def test_segment_of_another_epoch_is_refused(rig):
    rig.grant(epoch=5)
    rig.send(epoch=4)
    rig.run(0.1)
    assert rig.host.counters()["rejected"]["other authority epoch"] == 1


def test_segment_without_any_lease_is_ignored(rig):
    rig.send()
    assert rig.run(0.2)[-1]["mode"] == ControlMode.IDLE


def test_lease_of_a_stranger_is_as_none_and_has_no_epoch(scene):
    rig = HostRig(scene[0], ControlConfig(targets_need_lease=False))
    rig.grant(source="stranger", epoch=9)
    state = rig.run(0.01)[-1]
    rig.close()
    assert (state["source"], state["epoch"]) == ("topic", 0)


def test_host_without_a_prefix_is_refused(rig):
    with pytest.raises(ConfigError, match="shm_prefix"):
        build_host(ControlConfig(), fr3_arm(), rig.plant, "")


def test_stop_is_taken_at_the_next_tick_and_needs_a_resume(rig):
    rig.grant()
    rig.send(velocity=(0, 0.3, 0), duration_s=3.0)
    rig.run(0.5)
    rig.host.stop()
    states = rig.run(0.5)
    assert states[0]["mode"] == ControlMode.STOPPED
    assert speed(states[-1]) < 0.005
    rig.send()
    assert rig.run(0.2)[-1]["mode"] == ControlMode.STOPPED
    rig.host.resume()
    rig.send()
    assert rig.run(0.2)[-1]["mode"] == ControlMode.TRACK


def test_pushed_arm_yields_by_force_over_stiffness_and_returns(scene):
    path, info = scene
    rig = HostRig(path)
    rig.plant.request_reset(list(apply_layout(info, sample_layout(1))))
    rig.run(1.0)
    before = np.array(rig.host.state()["position"])
    rig.plant.set_external_force("hand", [0, 15.0, 0, 0, 0, 0])
    rig.run(3.0)
    moved = np.array(rig.host.state()["position"]) - before
    rig.plant.set_external_force("hand", [0.0] * 6)
    rig.run(3.0)
    back = np.array(rig.host.state()["position"]) - before
    rig.close()
    # F/K = 15 mm for the TCP; the hand's centre is above it and joint friction takes some.
    assert 0.008 < moved[1] < 0.020
    assert np.linalg.norm(back) < 0.004


def test_reset_is_continuous_in_torque_state_and_forgets_the_segment(rig, scene):
    rig.grant()
    rig.send(velocity=(0, 0.3, 0), duration_s=3.0)
    rig.run(0.3)
    rig.plant.request_reset(list(apply_layout(scene[1], sample_layout(2))))
    rig.states.clear()
    states = rig.run(0.3)
    assert states[0]["mode"] == ControlMode.IDLE
    assert states[0]["scene_epoch"] == 2
    assert speed(states[-1]) < 0.005
