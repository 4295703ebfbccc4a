# SPDX-License-Identifier: Apache-2.0
import numpy as np

from vla_ros.chunking.segment import build_segment, position_at, row_twists
from vla_ros.geometry import rotation_vector_to_quat
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ActionChunk, ControlMode, Latent, RobotState


def straight_chunk(n=16, dt_ns=33_000_000, speed=(0.1, 0.0, -0.2), spin=0.5):
    t = np.arange(n) * dt_ns * 1e-9
    return ActionChunk(
        target0_ns=10**9,
        dt_ns=dt_ns,
        positions=np.outer(t, speed),
        quats_xyzw=np.array([rotation_vector_to_quat(np.array([0, 0, spin * ti])) for ti in t]),
        gripper_width_m=np.full(n, 0.08),
    )


def test_row_twists_of_steady_motion_are_its_velocity():
    chunk = straight_chunk()
    twists = row_twists(chunk.positions, chunk.quats_xyzw, chunk.dt_ns * 1e-9)
    np.testing.assert_allclose(twists, np.tile([0.1, 0, -0.2, 0, 0, 0.5], (16, 1)), atol=1e-9)


def test_row_twist_of_a_single_row_is_zero():
    assert not row_twists(np.ones((1, 3)), np.array([[0, 0, 0, 1.0]]), 0.03).any()


def test_position_at_interpolates_and_clamps():
    chunk = straight_chunk()
    np.testing.assert_allclose(position_at(chunk, 10**9 + 49_500_000), [0.00495, 0, -0.0099])
    np.testing.assert_allclose(position_at(chunk, 0), chunk.positions[0])
    np.testing.assert_allclose(position_at(chunk, 10**12), chunk.positions[-1])


def test_segment_expires_with_its_latent_and_names_its_causes():
    latent = Latent(
        tensors={},
        stamp=LatencyStamp(
            kind=StampKind.LATENT, seq=4, episode_id=2, capture_oldest_ns=5, hard_expire_ns=777
        ),
    )
    state = RobotState(
        seq=99,
        tick_ns=10**9,
        mode=ControlMode.HOLD,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=np.eye(4),
        twist_base=np.zeros(6),
        T_base_ref=np.eye(4),
        twist_ref_base=np.zeros(6),
        gripper_width_m=0.08,
        gripper_target_m=0.08,
    )
    segment = build_segment(straight_chunk(), latent, state, seq=1, epoch=6, now_ns=10**9 + 5)
    assert segment.valid_until_ns == 777
    assert segment.epoch == 6
    assert segment.stamp.parent_seq == 4
    assert segment.stamp.anchor_seq == 99
    assert segment.stamp.capture_oldest_ns == 5
    assert np.all(np.diff(segment.target_ns) == 33_000_000)
