# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import ConfigError
from vla_ros.task import TaskInputs, TaskRun

START_NS = 10**12


def at(seconds: float) -> int:
    return START_NS + round(seconds * NS_PER_S)


def test_task_runs_on_while_nothing_happens() -> None:
    run = TaskRun(START_NS, 10.0)
    assert run.update(at(9.9), TaskInputs()) is None
    assert run.elapsed_s(at(9.9)) == pytest.approx(9.9)


def test_task_fails_when_its_time_is_over_and_says_what_the_judge_sees() -> None:
    outcome = TaskRun(START_NS, 10.0).update(at(10.0), TaskInputs(verdict="not in the bowl"))
    assert outcome is not None
    assert outcome.outcome == "failed"
    assert outcome.reason == "not done within 10 s; not in the bowl"


def test_claim_counts_after_half_a_second_without_interruption() -> None:
    run = TaskRun(START_NS, 10.0)
    claim = TaskInputs(claims_done=True)
    assert run.update(at(1.0), claim) is None
    assert run.update(at(1.49), claim) is None
    assert run.update(at(1.495), TaskInputs()) is None
    assert run.update(at(1.5), claim) is None
    outcome = run.update(at(2.0), claim)
    assert outcome is not None
    assert outcome.outcome == "done_claimed"


def test_claim_is_not_enough_when_the_verdict_is_waited_for() -> None:
    run = TaskRun(START_NS, 10.0, wait_for_verdict=True)
    for i in range(90):
        assert run.update(START_NS + i * 100 * NS_PER_MS, TaskInputs(claims_done=True)) is None
    outcome = run.update(at(9.5), TaskInputs(claims_done=True, is_verified=True))
    assert outcome is not None
    assert outcome.outcome == "verified"


@pytest.mark.parametrize("others", [{}, {"is_verified": True}, {"cancel_requested": True}])
def test_stop_outranks_everything(others: dict[str, bool]) -> None:
    outcome = TaskRun(START_NS, 10.0).update(at(99.0), TaskInputs(is_stopped=True, **others))
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == ("stopped", "stop requested")


def test_cancel_stops_the_task() -> None:
    outcome = TaskRun(START_NS).update(at(0.1), TaskInputs(cancel_requested=True))
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == ("stopped", "cancelled by the client")


def test_duration_zero_means_the_default() -> None:
    run = TaskRun(START_NS, 0.0)
    assert run.update(at(39.9), TaskInputs()) is None
    assert run.update(at(40.0), TaskInputs()) is not None


@pytest.mark.parametrize("duration_s", [-1.0, 0.01, 3601.0, math.nan, math.inf])
def test_duration_out_of_range_is_refused(duration_s: float) -> None:
    with pytest.raises(ConfigError, match=r"max_duration_s must be 0\.1 to 3600 s"):
        TaskRun(START_NS, duration_s)
