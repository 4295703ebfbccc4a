# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from vla_ros.control.force_task import ForceTask, ForceTaskConfig
from vla_ros.errors import ConfigError

DT_S = 0.001


def settle(task: ForceTask, lost_n: float, duration_s: float) -> tuple[float, float]:
    """Return force and command after a while in contact; joint friction keeps ``lost_n``."""
    command = task.config.force_n
    for _ in range(round(duration_s / DT_S)):
        force = command - lost_n
        command = task.update(force, DT_S)
    return force, command


@pytest.mark.parametrize("lost_n", [-2.0, -0.5, 0.7, 2.5])
def test_force_that_friction_keeps_is_found_by_the_integral(lost_n):
    force, command = settle(ForceTask(), lost_n, 1.0)
    assert force == pytest.approx(5.0, abs=1e-3)
    assert command == pytest.approx(5.0 + lost_n, abs=1e-3)


def test_error_decays_with_the_stated_bandwidth():
    """First order with 60 1/s, slowed a little by the filter: e^-3 of 1 N is left after 50 ms."""
    config = ForceTaskConfig(integral_per_s=60.0, filter_s=0.0)
    force, _ = settle(ForceTask(config), 1.0, 0.050)
    assert 5.0 - force == pytest.approx(math.exp(-3.0), rel=0.15)


def test_correction_never_exceeds_its_limit():
    _, command = settle(ForceTask(ForceTaskConfig(correction_limit_n=1.5)), 3.5, 2.0)
    assert command == pytest.approx(6.5)


def test_lost_contact_is_not_answered_by_more_force():
    task = ForceTask()
    settle(task, 2.5, 1.0)
    commands = [task.update(0.0, DT_S) for _ in range(300)]
    assert not task.in_contact
    assert max(commands) <= 8.0  # 5 N and the largest correction
    assert commands[-1] == pytest.approx(5.0, abs=1e-3)


def test_measurement_that_is_not_finite_changes_nothing_but_time():
    task = ForceTask()
    settle(task, 1.0, 1.0)
    before = task.measured_n
    assert math.isfinite(task.update(math.nan, DT_S))
    assert task.measured_n == before


def test_settings_out_of_range_are_refused_by_name():
    with pytest.raises(ConfigError, match="correction_limit_n must be 0"):
        ForceTaskConfig(correction_limit_n=-1.0)
