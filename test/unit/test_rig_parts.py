# SPDX-License-Identifier: Apache-2.0
"""Delays, paths and small worlds of the rig, without a simulated arm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ConfigError
from vla_ros.sim.rig.delays import DelayConfig, DelayTrace
from vla_ros.sim.rig.path import along, arrival_s, distance_at, length_of
from vla_ros.sim.rig.scenario import CLOSED_M, OPEN_M, Judge, Scenario, ScenarioConfig

TOP_M_S, ACCEL_M_S2 = 0.25, 1.2


def draws(config: DelayConfig, n: int, seed: int = 3) -> list[int | None]:
    trace = DelayTrace(config, seed)
    return [trace.draw() for _ in range(n)]


def test_a_seed_gives_the_same_delays() -> None:
    config = DelayConfig(kind="lognormal", mean_ms=100.0, cv=0.5, drop_share=0.1)
    assert draws(config, 50) == draws(config, 50)
    assert draws(config, 50) != draws(config, 50, seed=4)


@pytest.mark.parametrize("kind", ["lognormal", "uniform"])
def test_delays_have_the_mean_and_spread_asked_for(kind: str) -> None:
    found = np.array(draws(DelayConfig(kind=kind, mean_ms=200.0, cv=0.4), 20_000), dtype=float)
    assert found.mean() == pytest.approx(200e6, rel=0.01)
    assert found.std() / found.mean() == pytest.approx(0.4, rel=0.03)
    assert found.min() > 0.0


def test_spikes_and_drops_come_as_often_as_asked_for() -> None:
    config = DelayConfig(mean_ms=10.0, spike_share=0.05, spike_factor=4.0, drop_share=0.02)
    found = draws(config, 20_000)
    assert sum(d is None for d in found) / len(found) == pytest.approx(0.02, abs=0.004)
    assert sum(d == 40_000_000 for d in found) / len(found) == pytest.approx(0.049, abs=0.005)


def test_recorded_delays_are_played_in_turn() -> None:
    found = draws(DelayConfig(kind="recorded", recorded_ms=(1.0, 2.0, 3.0)), 6)
    start = [1_000_000, 2_000_000, 3_000_000].index(found[0] or 0)
    assert found == [((start + i) % 3 + 1) * 1_000_000 for i in range(6)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"kind": "uniform", "cv": 0.7}, "0.577"), ({"kind": "recorded"}, "recorded_ms")],
)
def test_impossible_delays_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DelayConfig(mean_ms=10.0, **changes)  # type: ignore[arg-type]


@given(st.floats(1e-3, 1.0), st.floats(0.0, TOP_M_S))
def test_a_motion_keeps_its_speed_and_ends_at_rest(length_m: float, speed_m_s: float) -> None:
    total_s = arrival_s(length_m, speed_m_s, TOP_M_S, ACCEL_M_S2)
    t = np.linspace(0.0, total_s, 2001)
    s = distance_at(t, length_m, speed_m_s, TOP_M_S, ACCEL_M_S2)
    speed = np.diff(s) / np.diff(t)
    assert s[0] == pytest.approx(0.0, abs=1e-12)
    assert s[-1] == pytest.approx(length_m)
    assert speed.min() >= -1e-9
    assert speed.max() <= TOP_M_S * (1.0 + 1e-6)
    assert speed[0] == pytest.approx(speed_m_s, abs=0.02)
    assert speed[-1] < 0.02


def test_points_along_a_bent_way() -> None:
    points = np.array([[0.0, 0, 0], [3.0, 0, 0], [3.0, 4.0, 0]])
    assert length_of(points) == 7.0
    np.testing.assert_allclose(
        along(points, np.array([0.0, 1.5, 5.0, 9.0])),
        [[0, 0, 0], [1.5, 0, 0], [3, 2, 0], [3, 4, 0]],
    )


def test_the_belt_turns_back_once_and_is_continuous() -> None:
    scenario = Scenario(ScenarioConfig(task="conveyor"), 5)
    t = np.arange(0.0, 6.0, 0.01)
    y = np.array([scenario.target_at(float(x)).position[1] for x in t])
    v = np.array([scenario.target_at(float(x)).velocity[1] for x in t])
    assert np.abs(np.diff(y)).max() <= 0.101 * 0.01
    assert int((np.diff(np.sign(v)) != 0).sum()) == 1


def judged(scenario: Scenario, position: np.ndarray, closes: bool = True, yaw: float = 0.0) -> str:
    t = np.array([0.1, 0.2])
    width = np.array([OPEN_M, CLOSED_M if closes else OPEN_M])
    positions = np.stack([position + np.array([0.0, 0.0, 0.1]), position])
    judge = Judge(scenario)
    judge.update(t, positions, np.full(2, yaw), np.zeros((2, 3)), width)
    return judge.verdict.reason


def test_the_judge_wants_the_right_place_angle_and_object() -> None:
    scenario = Scenario(ScenarioConfig(task="jump"), 1)
    there = scenario.target_at(0.2)
    assert judged(scenario, there.position, yaw=there.yaw_rad) == "grasped"
    assert (
        judged(scenario, there.position + np.array([0.02, 0, 0]), yaw=there.yaw_rad)
        == "missed the object"
    )
    assert judged(scenario, there.position, yaw=there.yaw_rad + 0.3) == "turned the wrong way"
    assert judged(scenario, there.position, closes=False) == ""
    two = Scenario(ScenarioConfig(task="swap"), 1)
    other = two.target_at(0.2, 2)
    assert judged(two, other.position, yaw=other.yaw_rad) == "wrong object"


def test_the_post_must_not_be_touched() -> None:
    scenario = Scenario(ScenarioConfig(task="around"), 1)
    at_post = np.array([*scenario.post, 0.42])
    assert judged(scenario, at_post, closes=False) == "touched the post"
