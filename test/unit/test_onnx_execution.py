# SPDX-License-Identifier: Apache-2.0
"""An exported policy in the executor: segments when all is well, a reason when it is not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_samples import (
    AGE_TO_Y,
    BASE_ROWS,
    DT_NS,
    MS,
    NOW,
    TEXT,
    H,
    cancels_at_once,
    fast_model,
    frame,
    observation,
    robot_state,
    wrist_model,
    write_split,
    write_wrist,
)

from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.latency.buffer import Admission, LatentBuffer
from vla_ros.latency.stamping import InferenceTimes, stamp_latent
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxSlowPolicy
from vla_ros.types import Latent

QUIET = PolicyRuntime(report=lambda text: None)
TIMES = InferenceTimes(request_ns=NOW, start_ns=NOW, end_ns=NOW, publish_ns=NOW)


class Cell:
    """Slow half, buffer and executor in virtual time."""

    def __init__(self, path, other=None, runtime=QUIET):
        self.slow = OnnxSlowPolicy(open_policy(other or path), QUIET)
        self.buffer = LatentBuffer()
        self.executor = ChunkExecutor(OnnxFastPolicy(open_policy(path), runtime), self.buffer)
        self.executor.set_context(self.executor.context(1, 1), NOW, None)
        self.seq = 0

    def look(self, at_ns=NOW):
        self.seq += 1
        frames = (frame("scene", capture_ns=at_ns), frame("wrist", capture_ns=at_ns))
        seen = observation(frames=frames, tick_ns=at_ns)
        tensors = self.slow.encode(seen)
        stamp = stamp_latent(
            seen,
            tensors,
            TIMES,
            seq=self.seq,
            validity_ns=1000 * MS,
            model_hash=self.slow.model_hash,
            declared_schema=self.slow.latent_schema_hash,
        )
        return self.buffer.offer(Latent(tensors=tensors, stamp=stamp), at_ns)

    def step(self, at_ns=NOW, frames=None):
        return self.executor.step(at_ns, robot_state(tick_ns=at_ns), TEXT, 1, frames)


def test_split_policy_commits_a_segment_at_every_step_until_its_latent_expires(tmp_path):
    cell = Cell(write_split(tmp_path))
    assert cell.look() is Admission.ACCEPTED
    for k in range(30):
        at_ns = NOW + k * 33 * MS
        result = cell.step(at_ns)
        assert result.segment is not None, result.starved_reason
        assert result.segment.target_ns[-H] == at_ns
        expected_y = 0.1 + AGE_TO_Y * (k * 0.033)
        # The difference to the plan before fades within the first rows.
        np.testing.assert_allclose(result.segment.positions[-1, 1], expected_y, atol=1e-5)
        assert result.segment.valid_until_ns == NOW + 1000 * MS
    assert "expired" in cell.step(NOW + 1001 * MS).starved_reason


def test_latent_of_other_weights_or_statistics_is_refused(tmp_path):
    path = write_split(tmp_path / "a")
    scaled = write_split(tmp_path / "b", normalisation_sha256="5" * 64)
    assert Cell(path, scaled).look() is Admission.WRONG_SCHEMA
    rows = BASE_ROWS + 1e-3
    trained = write_split(tmp_path / "c", fast=fast_model(rows))
    assert Cell(path, trained).look() is Admission.WRONG_MODEL
    assert Cell(path, path).look() is Admission.ACCEPTED


@pytest.mark.parametrize(("column", "value"), [(0, 1e6), (3, 0.0), (9, 3.0)])
def test_rows_that_make_no_sense_starve_the_arm_with_a_reason(tmp_path, column, value):
    rows = BASE_ROWS.copy()
    rows[0, 2, column] = value
    if column == 3:
        rows[0, 2, 3:6] = 0.0
    cell = Cell(write_split(tmp_path, fast=fast_model(rows)))
    cell.look()
    result = cell.step()
    assert result.segment is None
    assert result.starved_reason.startswith("fast policy: ")


def test_nothing_of_a_run_that_was_ended_is_executed(tmp_path):
    from vla_ros.policies.onnx.providers import SessionSettings

    settings = SessionSettings(provider="cpu", warmup_runs=0)
    runtime = PolicyRuntime(session=settings, guard=cancels_at_once)
    cell = Cell(write_split(tmp_path), runtime=runtime)
    cell.look()
    result = cell.step()
    assert result.segment is None
    assert "terminate" in result.starved_reason


def test_capabilities_of_the_export_choose_the_strategy(tmp_path):
    cell = Cell(write_split(tmp_path))
    assert cell.executor.capabilities.has_age_input
    assert cell.executor.capabilities.dt_ns == DT_NS


def test_fast_half_sees_a_fresh_image_and_misses_it_with_a_reason(tmp_path):
    cell = Cell(write_wrist(tmp_path, fast=wrist_model()))
    cell.look()
    assert "no image of 'wrist'" in cell.step().starved_reason
    wrist = {"wrist": frame("wrist", value=255, capture_ns=NOW + 10 * MS)}
    result = cell.step(NOW + 20 * MS, wrist)
    np.testing.assert_allclose(result.chunk.positions[:, 2], 0.3 + 1.0, atol=1e-6)
    assert result.segment.stamp.capture_newest_ns == NOW + 10 * MS
    assert result.segment.stamp.capture_oldest_ns == NOW
    late = cell.step(NOW + 700 * MS, wrist)
    assert "the image of 'wrist' is 690 ms old" in late.starved_reason
