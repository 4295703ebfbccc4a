# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from admission_samples import CONTEXT, DT_NS, MS, NOW, chunk

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.errors import ConfigError
from vla_ros.latency.admission import Admission
from vla_ros.latency.stamp import ClockDomain


@pytest.fixture
def admission() -> ChunkAdmission:
    made = ChunkAdmission(ChunkFormat(dt_ns=DT_NS, horizon=8))
    made.set_context(CONTEXT)
    return made


def spoilt(field, index, value):
    actions = chunk().chunk
    values = getattr(actions, field).copy()
    values[index] = value
    return {field: values}


@pytest.mark.parametrize(
    ("offered", "admission_expected"),
    [
        (chunk(), Admission.ACCEPTED),
        (chunk(rows_n=5), Admission.ACCEPTED),
        (chunk(episode_id=2), Admission.WRONG_EPISODE),
        (chunk(instruction_id=1), Admission.WRONG_INSTRUCTION),
        (chunk(epoch=2), Admission.WRONG_EPOCH),
        (chunk(schema_hash=9), Admission.WRONG_SCHEMA),
        (chunk(model_hash=9), Admission.WRONG_MODEL),
        (chunk(clock_id=b"b" * 16), Admission.WRONG_CLOCK),
        (chunk(clock_domain=ClockDomain.REALTIME), Admission.WRONG_CLOCK),
        (chunk(hard_expire_ns=NOW - 1), Admission.EXPIRED),
        (chunk(hard_expire_ns=0), Admission.EXPIRED),
        (chunk(hard_expire_ns=NOW + 5, clock_err_ns=6), Admission.EXPIRED),
        (chunk(capture_ms=-100), Admission.FROM_FUTURE),
        (chunk(rows={"target0_ns": NOW + 20_000 * MS}), Admission.FROM_FUTURE),
        (chunk(capture_ms=500), Admission.ALL_ROWS_PAST),
        (chunk(rows={"dt_ns": DT_NS + 1}), Admission.WRONG_FORMAT),
        (chunk(dt_ns=DT_NS + 1), Admission.WRONG_FORMAT),
        (chunk(rows_n=9), Admission.WRONG_FORMAT),
        (chunk(horizon=7), Admission.WRONG_FORMAT),
        (chunk(target0_ns=5), Admission.WRONG_FORMAT),
        (chunk(rows=spoilt("positions", (3, 1), np.nan)), Admission.NOT_FINITE),
        (chunk(rows=spoilt("gripper_width_m", 0, np.inf)), Admission.NOT_FINITE),
        (chunk(rows=spoilt("quats_xyzw", 2, [0, 0, 0, 1.1])), Admission.NOT_UNIT),
        (chunk(rows=spoilt("quats_xyzw", 2, 0.0)), Admission.NOT_UNIT),
        (chunk(infer_start_ns=NOW, infer_end_ns=NOW - 900 * MS), Admission.CLOCK_JUMP),
        (chunk(publish_ns=NOW + 200 * MS), Admission.CLOCK_JUMP),
    ],
)
def test_offer_says_what_became_of_a_chunk(admission, offered, admission_expected):
    verdict = admission.offer(offered, NOW)
    assert verdict.admission is admission_expected
    assert admission.counts == {admission_expected: 1}


def test_older_capture_is_refused_though_it_arrives_later(admission):
    assert admission.offer(chunk(50, seq=2), NOW).admission is Admission.ACCEPTED
    assert admission.offer(chunk(100, seq=1), NOW).admission is Admission.OUT_OF_ORDER


def test_duplicate_is_refused_but_another_chunk_of_the_same_images_is_not(admission):
    assert admission.offer(chunk(seq=1), NOW).admission is Admission.ACCEPTED
    assert admission.offer(chunk(seq=1), NOW).admission is Admission.OUT_OF_ORDER
    assert admission.offer(chunk(seq=2), NOW).admission is Admission.ACCEPTED


def test_refused_chunk_does_not_close_the_door_to_older_ones(admission):
    admission.offer(chunk(50, seq=2, episode_id=9), NOW)
    admission.offer(chunk(40, seq=3, rows=spoilt("positions", 0, np.nan)), NOW)
    assert admission.offer(chunk(100, seq=1), NOW).admission is Admission.ACCEPTED


def test_context_opens_the_door_to_older_captures_of_its_own(admission):
    admission.offer(chunk(50, seq=2), NOW)
    admission.set_context(dataclasses.replace(CONTEXT, instruction_id=3))
    assert admission.offer(chunk(100, seq=1, instruction_id=3), NOW).admission is Admission.ACCEPTED


def test_chunk_with_all_rows_past_asks_again_with_its_delay(admission):
    verdict = admission.offer(chunk(capture_ms=500), NOW)
    assert verdict.asks_again
    assert verdict.delay_ns == 500 * MS
    assert not admission.offer(chunk(), NOW).asks_again


def test_uncertain_clock_makes_execution_synchronous_until_it_is_certain_again(admission):
    verdict = admission.offer(chunk(100, clock_err_ns=DT_NS // 2 + 1), NOW)
    assert (verdict.admission, verdict.is_synchronous) == (Admission.ACCEPTED, True)
    for k in range(5):
        assert admission.is_synchronous
        admission.offer(chunk(99 - k, seq=2 + k, clock_err_ns=DT_NS // 2), NOW)
    assert not admission.is_synchronous


def test_clock_that_runs_backwards_makes_execution_synchronous_and_forgets_the_order(admission):
    admission.offer(chunk(10, seq=5), NOW)
    earlier = NOW - 2000 * MS
    verdict = admission.offer(chunk(2100, seq=6), earlier)
    assert (verdict.admission, verdict.is_synchronous) == (Admission.ACCEPTED, True)


def test_synchronous_execution_takes_a_chunk_only_when_the_rows_before_have_ended(admission):
    admission.offer(chunk(100, clock_err_ns=DT_NS), NOW)
    running_until = NOW + 100 * MS
    verdict = admission.offer(chunk(90, seq=2), NOW, running_until)
    assert verdict.admission is Admission.NOT_FINISHED
    verdict = admission.offer(chunk(90, seq=2), running_until, running_until)
    assert verdict.admission is Admission.ACCEPTED


def test_number_that_rises_while_its_publication_goes_back_is_a_clock_jump(admission):
    admission.offer(chunk(100, seq=5), NOW)
    verdict = admission.offer(chunk(99, seq=6, publish_ns=NOW - 80 * MS), NOW)
    assert verdict.admission is Admission.CLOCK_JUMP
    assert verdict.is_synchronous


def test_stranger_with_a_bad_clock_does_not_degrade_execution(admission):
    admission.offer(chunk(clock_id=b"b" * 16, publish_ns=NOW + 10**12), NOW)
    admission.offer(chunk(episode_id=7, clock_err_ns=10**12), NOW)
    assert not admission.is_synchronous


@pytest.mark.parametrize(("dt_ns", "horizon"), [(0, 8), (DT_NS, 0)])
def test_impossible_format_is_refused(dt_ns, horizon):
    with pytest.raises(ConfigError, match="must be positive"):
        ChunkFormat(dt_ns=dt_ns, horizon=horizon)
