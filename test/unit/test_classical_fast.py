# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from vla_ros.errors import PolicyError
from vla_ros.geometry import make_pose, rotation_about_z
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.classical_fast import ClassicalFastPolicy
from vla_ros.types import ControlMode, Latent, Observation, RobotState

MS = 1_000_000
DOWN = np.diag([1.0, -1.0, -1.0])
CUBE = np.array([0.5, 0.1, 0.02])
BOWL = np.array([0.45, -0.2, 0.045])


def latent(capture_ms=1000, placed=0.0, pick_seen_ms=None, **changes):
    seen = capture_ms if pick_seen_ms is None else pick_seen_ms
    tensors = {
        "pick_position": CUBE,
        "pick_yaw": np.zeros(1),
        "pick_confidence": np.ones(1),
        "pick_seen_ns": np.array([seen * MS], dtype=np.int64),
        "place_position": BOWL,
        "place_confidence": np.ones(1),
        "placed": np.array([placed]),
    } | changes
    stamp = LatencyStamp(kind=StampKind.LATENT, capture_oldest_ns=capture_ms * MS)
    return Latent(tensors=tensors, stamp=stamp)


def observe(position, width=0.08, target=0.08, now_ms=1000):
    T = make_pose(np.asarray(position, dtype=float), DOWN)
    state = RobotState(
        seq=1,
        tick_ns=now_ms * MS,
        mode=ControlMode.TRACK,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=T,
        twist_base=np.zeros(6),
        T_base_ref=T,
        twist_ref_base=np.zeros(6),
        gripper_width_m=width,
        gripper_target_m=target,
    )
    return Observation(state=state, instruction="", instruction_id=1, episode_id=1)


def decode(policy, lat, obs):
    return policy.decode(lat, obs, obs.state.tick_ns)


def test_goes_above_the_cube_then_down_then_closes():
    policy = ClassicalFastPolicy()
    chunk = decode(policy, latent(), observe([0.3, 0, 0.4]))
    assert chunk.phase == "reach"
    assert chunk.horizon == 16
    assert np.linalg.norm(chunk.positions[-1][:2] - CUBE[:2]) < np.linalg.norm([0.2, 0.1])
    assert decode(policy, latent(), observe([0.5, 0.1, 0.14])).phase == "descend"
    chunk = decode(policy, latent(), observe([0.5, 0.1, 0.021]))
    assert chunk.phase == "close"
    assert (chunk.gripper_width_m < 0.02).all()


def test_does_not_lift_before_the_fingers_are_still():
    policy = ClassicalFastPolicy()
    for i, width in enumerate((0.06, 0.054, 0.048, 0.042, 0.0395)):
        chunk = decode(policy, latent(), observe(CUBE, width, 0.01, 1000 + 33 * i))
        assert chunk.phase == "close"
        np.testing.assert_allclose(chunk.positions, np.tile(CUBE, (16, 1)), atol=1e-9)
    for i in range(4):
        chunk = decode(policy, latent(), observe(CUBE, 0.0393, 0.01, 1165 + 33 * i))
    assert chunk.phase == "carry"


def closed_on(policy, width):
    for i in range(6):
        chunk = decode(policy, latent(), observe(CUBE, width, 0.01, 1000 + 33 * i))
    return chunk


def test_opens_again_when_nothing_was_grasped():
    chunk = closed_on(ClassicalFastPolicy(), 0.011)
    assert chunk.phase == "missed"
    assert (chunk.gripper_width_m == 0.08).all()


def test_after_opening_waits_for_an_image_that_is_newer():
    policy = ClassicalFastPolicy()
    closed_on(policy, 0.039)
    old = decode(policy, latent(capture_ms=1100), observe([0.45, -0.2, 0.09], 0.08, 0.08, 1300))
    assert old.phase == "look"
    new = decode(policy, latent(capture_ms=1400), observe([0.45, -0.2, 0.09], 0.08, 0.08, 1500))
    assert new.phase == "reach"


def test_done_only_for_an_image_after_the_release_and_away_from_the_bowl():
    policy = ClassicalFastPolicy()
    closed_on(policy, 0.039)
    low = observe([0.45, -0.2, 0.085], 0.08, 0.08, 1300)
    assert not decode(policy, latent(capture_ms=1100, placed=1.0), low).done
    assert not decode(policy, latent(capture_ms=1400, placed=1.0), low).done
    high = observe([0.40, -0.1, 0.3], 0.08, 0.08, 1600)
    assert decode(policy, latent(capture_ms=1400, placed=1.0), high).done


def test_unseen_cube_means_retreat_with_open_gripper():
    blind = latent(pick_confidence=np.zeros(1))
    chunk = decode(ClassicalFastPolicy(), blind, observe([0.5, 0.1, 0.3]))
    assert chunk.phase == "look"
    assert (chunk.gripper_width_m == 0.08).all()


def test_grasp_yaw_is_along_the_cube_and_within_a_quarter_turn():
    policy = ClassicalFastPolicy()
    for yaw in np.linspace(-3, 3, 25):
        turned = latent(pick_yaw=np.array([yaw]))
        chunk = decode(policy, turned, observe([0.5, 0.1, 0.14]))
        goal = policy._choose(dict(turned.tensors), observe([0.5, 0.1, 0.14]).state, 0).R
        down = rotation_about_z(yaw) @ DOWN
        angle = np.arccos(np.clip((np.trace(down.T @ goal) - 1) / 2, -1, 1))
        assert min(angle % (np.pi / 2), np.pi / 2 - angle % (np.pi / 2)) < 1e-6
        assert chunk.horizon == 16


@pytest.mark.parametrize("name", ["pick_position", "placed", "place_position"])
def test_missing_or_misshapen_tensor_is_a_policy_error_by_name(name):
    bad = latent(**{name: np.zeros(7)})
    with pytest.raises(PolicyError, match=name):
        decode(ClassicalFastPolicy(), bad, observe([0.3, 0, 0.4]))
