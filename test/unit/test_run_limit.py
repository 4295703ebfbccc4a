# SPDX-License-Identifier: Apache-2.0
"""Runs that take too long are ended, and their results are void. Some wait, for 1 s at most."""

from __future__ import annotations

import threading

import pytest

from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
from vla_ros.policies.run_limit import RunLimit, unlimited

LIMIT_S = 0.02


@pytest.fixture
def limit():
    made = RunLimit(LIMIT_S)
    yield made
    made.close()


def run(limit, told, error=None):
    """A run that goes on until it is told to end."""
    with limit("slow", told.set):
        assert told.wait(10.0)
        if error is not None:
            raise error


def test_run_is_told_to_end_when_its_limit_has_passed(limit):
    with pytest.raises(PolicyTimeoutError, match=r"slow took longer than 0\.02 s"):
        run(limit, threading.Event())


def test_error_of_a_run_that_was_ended_is_its_time(limit):
    with pytest.raises(PolicyTimeoutError) as caught:
        run(limit, threading.Event(), PolicyError("terminated"))
    assert str(caught.value.__cause__) == "terminated"


def test_error_of_a_run_in_time_is_its_own(limit):
    with pytest.raises(PolicyError, match="broken") as caught, limit("slow", lambda: None):
        raise PolicyError("broken")
    assert not isinstance(caught.value, PolicyTimeoutError)


def test_many_runs_in_time_are_let_be_and_one_that_is_not_is_still_ended():
    limit = RunLimit(1.0)
    for _ in range(200):
        with limit("slow", lambda: None):
            pass
    with pytest.raises(PolicyTimeoutError):
        run(limit, threading.Event())
    limit.close()


def test_run_that_cannot_be_ended_is_reported_once():
    stuck: list[str] = []
    heard = threading.Event()

    def on_stuck(why: str) -> None:
        stuck.append(why)
        heard.set()

    limit = RunLimit(0.01, on_stuck, grace_s=0.01)
    with pytest.raises(PolicyTimeoutError), limit("slow", lambda: None):
        assert heard.wait(10.0)
    limit.close()
    assert stuck == ["slow does not end 0.01 s after it was told to"]


def test_no_thread_is_started_before_the_first_run():
    before = threading.active_count()
    RunLimit(1.0).close()
    assert threading.active_count() == before


def test_without_limit_nothing_is_ended():
    with unlimited("slow", pytest.fail):
        pass


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), 1e6])
def test_limit_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match=r"limit_s must be 0\.001 to 3600 s"):
        RunLimit(value)
