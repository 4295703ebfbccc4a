# SPDX-License-Identifier: Apache-2.0
"""A backend that returns NaN, with every check before the control host switched off."""

from __future__ import annotations

import numpy as np
import pytest
from host_rig import HostRig, speed
from policy_stubs import ROWS, ParallelDecoder
from strategy_samples import make_observation

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.planner import ChunkPlanner
from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.latency.admission import BufferContext
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.conformance.planted import CHUNK_FAULTS
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import ActionChunk, ControlMode

pytestmark = pytest.mark.sim

DT_NS = ParallelDecoder.chunk_dt_ns


@pytest.fixture
def rig(tmp_path):
    model = build_scene()
    save_model(model, tmp_path / "scene.mjb")
    rig = HostRig(tmp_path / "scene.mjb")
    rig.plant.request_reset(list(apply_layout(describe_scene(model), sample_layout(1))))
    rig.run(0.3)
    yield rig
    rig.close()


def rows_from(rig: HostRig) -> ActionChunk:
    """Rows that move by 2 cm from where the arm is asked to be."""
    state = to_robot_state(rig.host.state())
    positions = state.T_base_ref[:3, 3] + np.linspace(0.0, 0.02, ROWS)[:, None] * [0, 1, 0]
    return ActionChunk(
        target0_ns=rig.now_ns,
        dt_ns=DT_NS,
        positions=positions,
        quats_xyzw=np.tile(rig.host.state()["ref_quat_xyzw"], (ROWS, 1)),
        gripper_width_m=np.full(ROWS, 0.08),
    )


@pytest.mark.parametrize("fault", ["", "NaN in a row"])
def test_rows_with_nan_are_caught_by_the_control_host(rig: HostRig, fault: str) -> None:
    form = ChunkFormat(dt_ns=DT_NS, horizon=ROWS)
    able = PolicyCapabilities(horizon=ROWS, dt_ns=DT_NS)
    committer = ChunkCommitter(ChunkAdmission(form))
    planner = ChunkPlanner(make_strategy("naive", able), committer, admits=False)
    context = BufferContext(episode_id=1, instruction_id=1, epoch=1)
    planner.set_context(context, rig.now_ns, None)
    rig.grant()
    start = np.array(rig.host.state()["position"])
    states = []
    for seq in range(1, 11):
        observation = make_observation(rig.now_ns)
        request = planner.request(rig.now_ns, observation)
        assert request is not None
        chunk = rows_from(rig)
        if fault:
            chunk = CHUNK_FAULTS[fault](chunk)
        stamp = LatencyStamp(
            kind=StampKind.CHUNK,
            seq=seq,
            episode_id=1,
            epoch=1,
            capture_oldest_ns=rig.now_ns,
            publish_ns=rig.now_ns,
            hard_expire_ns=rig.now_ns + 1_000_000_000,
        )
        planner.offer((chunk,), request, stamp, rig.now_ns)
        planned = planner.plan(rig.now_ns, observation)
        assert planned is not None  # nobody before the control host objects
        write_segment(rig.segments, planned.segment)
        states += rig.run(0.033)
    moved_m = np.linalg.norm(np.array(states[-1]["position"]) - start)
    assert np.isfinite([s["tau"] for s in states]).all()
    if fault:
        assert moved_m < 0.002
        assert max(speed(s) for s in states) < 0.02
        assert states[-1]["mode"] != ControlMode.TRACK
    else:
        assert moved_m > 0.005
        assert states[-1]["mode"] == ControlMode.TRACK
