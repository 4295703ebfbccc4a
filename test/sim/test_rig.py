# SPDX-License-Identifier: Apache-2.0
"""Episodes in virtual time: the same every time, honest about what they measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("mujoco")

from vla_ros.control.config import ControlConfig
from vla_ros.experiments.plan import SURROGATE, known_plans, load_plan
from vla_ros.experiments.run import Job, run_job
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.sim.rig.expert import ExpertConfig
from vla_ros.sim.rig.runner import RigCase, RigRunner
from vla_ros.sim.rig.scenario import ScenarioConfig
from vla_ros.sim.rig.surrogate import PolicyConfig

pytestmark = pytest.mark.sim

SEED = 900_000  # no experiment uses these


@pytest.fixture(scope="module")
def runner() -> Iterator[RigRunner]:
    made = RigRunner()
    yield made
    made.close()


def case(**changes: object) -> RigCase:
    values: dict[str, object] = {
        "strategy": "naive",
        "scenario": ScenarioConfig(task="conveyor", limit_s=2.5),
        "delay": DelayConfig(kind="lognormal", mean_ms=120.0, cv=0.5, drop_share=0.05),
    }
    return RigCase(**(values | changes))  # type: ignore[arg-type]


def test_an_episode_depends_on_case_and_seed_alone(runner: RigRunner) -> None:
    first = asdict(runner.run(case(), SEED))
    runner.run(case(strategy="weighted_average"), SEED + 1)
    again = asdict(runner.run(case(), SEED))
    fresh = RigRunner()
    elsewhere = asdict(fresh.run(case(), SEED))
    fresh.close()
    # As text: values that were not measured are not equal to themselves.
    assert repr(first) == repr(again) == repr(elsewhere)


def test_age_is_that_of_the_delay(runner: RigRunner) -> None:
    result = runner.run(
        case(
            delay=DelayConfig(mean_ms=231.0),
            scenario=ScenarioConfig(task="track", limit_s=3.0),
        ),
        SEED,
    )
    # One inference at a time: a chunk is 7 rows old when it arrives, 14 when the next one does.
    assert 0.23 < result.age_p50_s < 0.47
    assert result.rows_after_expiry == 0


def test_a_policy_that_stands_still_leaves_the_arm_at_rest(runner: RigRunner) -> None:
    result = runner.run(
        case(
            strategy="timed",
            scenario=ScenarioConfig(task="track", limit_s=5.0),
            delay=DelayConfig(mean_ms=33.0),
            stall_at_s=1.5,
            stall_s=2.0,
        ),
        SEED,
    )
    assert result.overrun_m < 0.03  # braking from 0.2 m/s
    assert 0.0 <= result.recovery_s < 0.3
    assert result.idle_share > 0.2


def test_age_makes_the_difference_on_a_belt(runner: RigRunner) -> None:
    belt = ScenarioConfig(task="belt", limit_s=7.0)
    slow = DelayConfig(mean_ms=1000.0)
    split = {"strategy": "timed", "split": True, "warm_start": True, "admits": True}
    told = runner.run(case(scenario=belt, delay=slow, **split), SEED)
    untold = runner.run(case(scenario=belt, delay=slow, stamps="fresh", **split), SEED)
    assert told.track_rmse_m < 0.3 * untold.track_rmse_m  # no turn yet within 7 s
    assert told.inferences == untold.inferences


def test_rows_below_a_surface_press_on_it(runner: RigRunner) -> None:
    pressing = case(
        strategy="timed",
        split=True,
        admits=True,
        scenario=ScenarioConfig(task="wipe", limit_s=4.5),
        delay=DelayConfig(),
        expert=ExpertConfig(press_m=0.01, seen_sigma_m=0.0),
        policy=PolicyConfig(row_sigma_m=1e-5, row_growth_m=0.0),
        control=ControlConfig(stiffness_trans=500.0),
    )
    result = runner.run(pressing, SEED)
    assert result.contact_share == 1.0
    assert result.force_rmse_n < 1.0  # about 5 N: 500 N/m times 10 mm
    assert result.force_peak_n < 8.0


def test_every_arm_of_every_plan_runs() -> None:
    for name in known_plans():
        plan = load_plan(name)
        if plan.rig != SURROGATE:
            continue
        cell = plan.cells[0]
        for arm in plan.arms_of(cell):
            values = plan.case_values(cell, arm, len(arm.choices) - 1)
            values["scenario"] = dict(values["scenario"]) | {"limit_s": 0.5}
            (row,) = run_job(Job(cell.name, arm.name, 0, (SEED,), values))
            assert row["arm"] == arm.name
            assert np.isfinite(float(row[plan.metric])) or plan.metric != "success"


@pytest.mark.parametrize("delay_ms", [0.0, 66.0])
def test_guided_plans_do_not_run_away_however_much_rows_scatter(
    runner: RigRunner, delay_ms: float
) -> None:
    scattered = case(
        strategy="timed",
        admits=True,
        scenario=ScenarioConfig(task="track", limit_s=2.5),
        delay=DelayConfig(mean_ms=delay_ms),
        policy=PolicyConfig(row_sigma_m=0.004, row_growth_m=0.0003, correlation=0.85),
    )
    for seed in range(SEED, SEED + 3):
        result = runner.run(scattered, seed)
        assert result.seam_m_p95 < 0.025
        assert result.track_rmse_m < 0.06
