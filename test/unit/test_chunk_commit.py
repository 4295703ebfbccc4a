# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from admission_samples import CONTEXT, DT_NS, MS, NOW, chunk, state

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import BrakeLimits, ChunkCommitter
from vla_ros.latency.admission import Admission


@pytest.fixture
def committer() -> ChunkCommitter:
    made = ChunkCommitter(ChunkAdmission(ChunkFormat(dt_ns=DT_NS, horizon=8)))
    assert made.set_context(CONTEXT, NOW, None) is None
    return made


def test_rows_keep_their_times_and_end_with_the_stamp(committer):
    offered = chunk(100, clock_err_ns=3)
    segment = committer.offer(offered, NOW).segment
    assert segment.target_ns[0] == NOW - 100 * MS
    assert np.diff(segment.target_ns).tolist() == [DT_NS] * 7
    assert segment.valid_until_ns == offered.stamp.hard_expire_ns - 3
    assert (segment.epoch, segment.stamp.instruction_id) == (3, 2)


def test_refused_chunk_gives_no_segment(committer):
    commitment = committer.offer(chunk(epoch=9), NOW)
    assert commitment.segment is None
    assert commitment.verdict.admission is Admission.WRONG_EPOCH


@pytest.mark.parametrize(
    ("speed", "turn", "left_ns"),
    [(0.15, 0.0, 50 * MS), (0.0, 0.4, 40 * MS), (0.6, 0.0, 3 * DT_NS), (0.0, 0.0, 5 * MS)],
)
def test_new_instruction_leaves_braking_time_or_three_rows_of_the_old_one(
    committer, speed, turn, left_ns
):
    running = committer.offer(chunk(100), NOW).segment
    context = dataclasses.replace(CONTEXT, instruction_id=7)
    rest = committer.set_context(context, NOW, state(speed, turn))
    assert rest.valid_until_ns == NOW + left_ns
    np.testing.assert_array_equal(rest.target_ns, running.target_ns)
    assert rest.stamp.instruction_id == 2
    assert committer.should_ask(NOW)
    assert committer.offer(chunk(90, seq=2), NOW).segment is None


def test_rest_of_the_old_instruction_never_outlives_its_expiry(committer):
    committer.offer(chunk(100, hard_expire_ns=NOW + 10 * MS), NOW)
    context = dataclasses.replace(CONTEXT, instruction_id=7)
    assert committer.set_context(context, NOW, state()).valid_until_ns == NOW + 10 * MS


@pytest.mark.parametrize("change", [{"epoch": 4}, {"epoch": 4, "instruction_id": 7}])
def test_nothing_is_left_under_another_epoch(committer, change):
    committer.offer(chunk(100), NOW)
    assert committer.set_context(dataclasses.replace(CONTEXT, **change), NOW, state()) is None
    assert committer.should_ask(NOW)


def test_nothing_is_left_when_nobody_knows_how_fast_the_arm_is(committer):
    committer.offer(chunk(100), NOW)
    assert committer.set_context(dataclasses.replace(CONTEXT, episode_id=7), NOW, None) is None


def test_next_chunk_is_asked_for_by_the_time_that_is_left(committer):
    assert committer.should_ask(NOW)
    request_ns = NOW - 40 * MS
    for k in range(5):  # 40 to 36 ms from request to rows
        committer.offer(chunk(100 - k, seq=1 + k, request_ns=request_ns + k * MS), NOW)
    until_ns = committer.running_until_ns(NOW)
    assert not committer.should_ask(NOW)
    latency_ns = committer.delays.latency_ns
    assert latency_ns == 38 * MS  # the first is warm-up, the largest never counts
    assert not committer.should_ask(until_ns - latency_ns - 50 * MS - 1)
    assert committer.should_ask(until_ns - latency_ns - 50 * MS)


def test_chunk_that_is_too_late_asks_again_with_a_larger_delay(committer):
    for k in range(4):
        committer.offer(chunk(100 - k, seq=1 + k, request_ns=NOW - 90 * MS), NOW)
    before = committer.delays.commit_rows(DT_NS, 8)
    later = NOW + 500 * MS
    commitment = committer.offer(chunk(50, seq=9, request_ns=NOW - 50 * MS), later)
    assert commitment.verdict.asks_again
    assert committer.should_ask(later)
    assert committer.delays.delay_ns == 550 * MS
    assert committer.delays.commit_rows(DT_NS, 30) == 17 > before
    committer.offer(chunk(-490, seq=10, request_ns=later - 9 * MS), later)
    assert committer.delays.delay_ns < 550 * MS


def test_committed_rows_are_those_of_the_delay(committer):
    segments = [
        committer.offer(chunk(100 - k, seq=1 + k, request_ns=NOW - 90 * MS), NOW).segment
        for k in range(3)
    ]
    assert segments[-1].stamp.committed_len == 3  # 98 ms are less than three rows of 33 ms


def test_synchronous_rows_begin_when_they_arrive_and_are_asked_for_at_rest(committer):
    segment = committer.offer(chunk(100, clock_err_ns=DT_NS), NOW).segment
    assert segment.target_ns[0] == NOW
    until_ns = committer.running_until_ns(NOW)
    assert not committer.should_ask(until_ns - 1)
    assert committer.should_ask(until_ns)
    late = committer.offer(chunk(100, seq=2, hard_expire_ns=until_ns + 500 * MS), until_ns)
    assert late.segment.target_ns[0] == until_ns


def test_braking_time_of_a_state_that_is_not_finite_is_nothing():
    assert BrakeLimits().braking_ns(state(np.nan)) == 0
