# SPDX-License-Identifier: Apache-2.0
"""What a live residual may be: settings of the node, corrections that are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.policies.hooks.limiter import LimiterConfig
from vla_ros.policies.hooks.residual import BoundedResidual, ResidualConfig
from vla_ros.policies.hooks.residual_inbox import UNSTAMPED, ResidualInbox
from vla_ros.policies.hooks.settings import HookSettings

MS = 1_000_000
NOW_NS = 10_000 * MS
GOOD = np.array([0.01, 0.0, 0.0, 0.0, 0.0, 0.05])


def make_inbox() -> ResidualInbox:
    return ResidualInbox(ResidualConfig(bound_m=0.02, bound_rad=0.1), "base", 0.2)


def test_the_newest_correction_is_taken_once() -> None:
    inbox = make_inbox()
    assert inbox.take() is None
    assert inbox.put(GOOD, "base", NOW_NS - 20 * MS, NOW_NS) == ""
    assert inbox.put(2 * GOOD, "", NOW_NS, NOW_NS) == ""
    taken = inbox.take()
    assert taken is not None
    np.testing.assert_array_equal(taken[0], 2 * GOOD)
    assert taken[1] == NOW_NS
    assert inbox.take() is None
    assert (inbox.accepted, inbox.refused.total()) == (2, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frame": "fr3_hand"}, "frame: expected 'base', got 'fr3_hand'"),
        ({"made_ns": UNSTAMPED}, "no stamp"),
        ({"value": np.zeros(5)}, r"shape: expected \(6,\), got \(5,\)"),
        ({"value": np.array([0, np.nan, 0, 0, 0, 0])}, "not finite"),
        ({"value": np.array([0, 0, 0, np.inf, 0, 0])}, "not finite"),
        ({"made_ns": NOW_NS + 6 * MS}, "from the future: by 6 ms"),
        ({"made_ns": NOW_NS - 201 * MS}, "too old: 201 ms, at most 200 ms"),
        ({"made_ns": NOW_NS - 31 * MS}, "out of order: 1.0 ms before the last"),
        ({"value": np.array([10.0, 0, 0, 0, 0, 0])}, "too large: 10 m, at most 0.2 m"),
        ({"value": np.array([0, 0, 0, 0, 2.9, 0])}, "too large: 2.9 rad, at most 1 rad"),
    ],
)
def test_a_correction_that_cannot_be_used_is_refused_with_what_is_expected(
    change: dict, reason: str
) -> None:
    inbox = make_inbox()
    assert inbox.put(GOOD, "base", NOW_NS - 30 * MS, NOW_NS) == ""
    arguments = {"value": GOOD, "frame": "base", "made_ns": NOW_NS, "now_ns": NOW_NS} | change
    said = inbox.put(**arguments)
    assert said == inbox.last_refusal
    assert re.match(reason, said)
    assert dict(inbox.refused) == {said.split(":")[0]: 1}
    taken = inbox.take()
    assert taken is not None
    np.testing.assert_array_equal(taken[0], GOOD)  # the one before still counts


def test_a_correction_beyond_the_bound_is_shortened_not_refused() -> None:
    inbox = make_inbox()
    assert inbox.put(5 * GOOD, "base", NOW_NS, NOW_NS) == ""
    residual = BoundedResidual(ResidualConfig(bound_m=0.02, longest_step_s=1.0, slew_m_s=1.0))
    residual.step(NOW_NS - 1000 * MS)
    assert residual.offer(*inbox.take(), NOW_NS)  # type: ignore[misc]
    assert np.linalg.norm(residual.step(NOW_NS)[:3]) == pytest.approx(0.02)


def test_without_being_asked_for_there_are_no_hooks() -> None:
    assert not HookSettings().has_hooks
    assert HookSettings(residual=True).has_hooks
    assert HookSettings(limiter=True).has_hooks


def test_settings_reach_the_hooks() -> None:
    settings = HookSettings(
        residual_bound_m=0.01,
        residual_hold_s=0.03,
        limiter_deviation_m=0.05,
        limiter_box_low_m=[0.0, -1.0, 0.0],  # as ROS gives it
    )
    config = settings.residual_config(0.01)
    assert (config.bound_m, config.hold_s, config.longest_step_s) == (0.01, 0.03, 0.01)
    limits = settings.limiter_config()
    assert limits == LimiterConfig(deviation_m=0.05, box_low_m=(0.0, -1.0, 0.0))


def test_by_default_a_chunk_of_the_node_moves_a_millimetre_at_most_however_late_it_is() -> None:
    residual = BoundedResidual(HookSettings().residual_config(1.0 / 30.0))
    residual.step(0)
    residual.offer(np.array([0.02, 0, 0, 0, 0, 0]), 500 * MS, 500 * MS)
    assert np.linalg.norm(residual.step(500 * MS)[:3]) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("residual_bound_m", 0.5, r"residual_bound_m must be 0\.0 to 0\.2 m, got 0\.5 m"),
        ("residual_decay_s", 0.0, "residual_decay_s must be 0.01 to 10.0 s"),
        ("limiter_speed_m_s", 9.0, "limiter_speed_m_s must be 0.01 to 3.0 m/s"),
        ("limiter_box_low_m", [0.0, 0.0], "box_low_m must be below box_high_m"),
        ("limiter_box_low_m", [20.0, 0.0, 0.0], r"limiter_box_low_m\[0\] must be"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_value_and_range(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        HookSettings(**{name: value})
