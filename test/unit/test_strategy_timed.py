# SPDX-License-Identifier: Apache-2.0
"""Projection and the strategy that acts by time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategy_samples import (
    DT_NS,
    H,
    Loop,
    able,
    capabilities,
    executed_x,
    make_chunk,
)

from vla_ros.chunking.projection import ImpedanceModel, project_state
from vla_ros.chunking.rows import row_times
from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.state_projection import (
    StateProjection,
    StateProjectionSettings,
)
from vla_ros.chunking.strategies.timed import Timed, TimedSettings, best_guidance
from vla_ros.types import ActionChunk


def numbered(request: InferenceRequest) -> tuple[ActionChunk, ...]:
    """Row i of request number k is k + i / 100."""
    return (make_chunk(request.target0_ns, request.seq + 0.01 * np.arange(8.0)),)


def projecting(**changes: object) -> StateProjection:
    return StateProjection(capabilities(), StateProjectionSettings(**changes))


def timed(policy: PolicyCapabilities | None = None, **changes: object) -> Timed:
    return Timed(policy or able(), TimedSettings(**changes))


def test_projection_hands_over_after_the_committed_rows() -> None:
    strategy = projecting(execution_horizon=4)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(9)
    # Asked at step 2 for rows from step 4, so nothing of the new chunk is skipped.
    assert [r.target0_ns // DT_NS for r in loop.requests] == [0, 4, 8]
    np.testing.assert_allclose(
        executed_x(loop.plans), [1, 1.01, 1.02, 1.03, 2, 2.01, 2.02, 2.03, 3]
    )


def test_projection_waits_for_the_handover_when_the_result_is_early() -> None:
    strategy = projecting(execution_horizon=6)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 1 if k else 0, delay_estimate_ns=4 * DT_NS
    )
    loop.run(8)
    np.testing.assert_allclose(executed_x(loop.plans)[2:8], [1.02, 1.03, 1.04, 1.05, 2, 2.01])


def test_projection_enters_a_late_chunk_where_it_is_due() -> None:
    strategy = projecting(execution_horizon=4)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 4 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(8)
    np.testing.assert_allclose(executed_x(loop.plans)[4:8], [1.04, 1.05, 2.02, 2.03])


def test_projection_of_a_whole_chunk_leaves_no_gap() -> None:
    strategy = projecting(execution_horizon=8)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(17)
    x = executed_x(loop.plans)
    np.testing.assert_allclose(x[:8], 1 + 0.01 * np.arange(8))
    np.testing.assert_allclose(x[8:16], 2 + 0.01 * np.arange(8))


@pytest.mark.parametrize("projection", ["impedance", "last_row"])
def test_projection_shows_the_predicted_state(projection: str) -> None:
    strategy = projecting(execution_horizon=4, projection=projection)
    loop = Loop(strategy, numbered, delay_estimate_ns=2 * DT_NS)
    loop.run(3)
    first, second = loop.requests
    assert not first.is_projected
    assert second.is_projected
    shown = second.observation.state
    if projection == "last_row":
        assert shown.T_base_ee[0, 3] == pytest.approx(1.03)
    else:
        state = loop.requests[1].observation.state
        measured = Loop(strategy, numbered, now_ns=2 * DT_NS)._situation().state
        plan = make_chunk(0, 1 + 0.01 * np.arange(8.0))
        expected = project_state(measured, plan, 4 * DT_NS, ImpedanceModel())
        np.testing.assert_allclose(state.T_base_ee, expected.T_base_ee)


def test_best_guidance_prefers_what_binds_most() -> None:
    assert best_guidance(able()) is Guidance.IDENTITY
    assert best_guidance(able(has_vjp=False, is_guided=False)) is Guidance.TRAINED
    assert best_guidance(capabilities()) is Guidance.NONE


def test_timed_starts_from_rest_with_row_zero() -> None:
    loop = Loop(timed(), numbered, delay_steps=lambda k: 3, delay_estimate_ns=3 * DT_NS)
    loop.run(6)
    assert loop.requests[0].target0_ns == 3 * DT_NS
    np.testing.assert_allclose(executed_x(loop.plans)[3:6], [1, 1.01, 1.02])


def test_timed_asks_when_committed_rows_last_no_longer_than_the_delay() -> None:
    strategy = timed(
        able(has_vjp=False, is_guided=False), continuous_below_s=0.0, execution_horizon=6
    )
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(8)
    # First rows at step 2 (delay of the estimate), 6 committed: until step 8. Delay 2 and margin:
    # at step 5 the rows left at the next step would last no longer.
    starts = [r.target0_ns // DT_NS for r in loop.requests]
    assert starts[0] == 2
    assert starts[1] == 5


def test_timed_asks_always_when_inference_is_cheap() -> None:
    strategy = timed(continuous_below_s=0.2)
    loop = Loop(strategy, numbered, delay_steps=lambda k: 1, delay_estimate_ns=DT_NS)
    loop.run(10)
    assert len(loop.requests) == 10


def test_timed_keeps_the_rows_that_were_promised() -> None:
    """The result is early: old rows stay until the prefix ends, then new ones, faded."""
    strategy = timed(able(has_vjp=False, is_guided=False), continuous_below_s=1.0)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 1 if k else 0, delay_estimate_ns=3 * DT_NS
    )
    loop.run(3)
    rows = loop.plans[2]  # chunk 1 begins at step 3; chunk 2, asked at step 1, is there
    prefix = loop.requests[1].prefix
    assert rows is not None
    assert prefix is not None
    assert prefix.frozen_len == 3
    switch_ns = loop.requests[1].target0_ns + prefix.frozen_len * DT_NS
    times = row_times(rows)
    x = rows.positions[:, 0]
    assert (x[times < switch_ns] < 1.1).all()
    assert x[times == switch_ns] == pytest.approx(1.01)
    assert (np.diff(x[times >= switch_ns]) > 0).all()


def test_timed_guides_projected_rows_by_those_of_the_plan() -> None:
    loop = Loop(
        timed(continuous_below_s=1.0),
        numbered,
        delay_steps=lambda k: 2 if k else 0,
        delay_estimate_ns=2 * DT_NS,
    )
    loop.run(5)
    asked = loop.requests[1]
    assert asked.guidance is Guidance.IDENTITY
    assert asked.is_projected
    assert asked.prefix is not None
    assert asked.prefix.frozen_len == 0
    assert asked.prefix.rows.target0_ns == asked.target0_ns
    assert asked.observation.state.tick_ns < asked.target0_ns


def test_timed_enters_a_late_chunk_where_it_is_due_and_fades() -> None:
    strategy = timed(continuous_below_s=1.0)
    loop = Loop(strategy, numbered, delay_steps=lambda k: 5 if k else 0, delay_estimate_ns=DT_NS)
    loop.run(8)
    assert strategy.late_joins >= 1
    x = np.array(executed_x(loop.plans)[1:])
    assert np.abs(np.diff(x)).max() < 0.6  # never the jump of 1


def test_timed_projects_for_a_policy_without_prefix() -> None:
    strategy = timed(capabilities(takes_projected_state=True), continuous_below_s=1.0)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(5)
    asked = loop.requests[1]
    assert asked.is_projected
    assert asked.prefix is None
    assert asked.target0_ns >= loop.requests[0].target0_ns
    assert asked.observation.state.tick_ns < asked.target0_ns


def test_timed_without_projection_shows_what_is_measured_and_skips_rows_that_are_due() -> None:
    strategy = timed(capabilities(), continuous_below_s=1.0, projection="none", execution_horizon=4)
    loop = Loop(strategy, numbered, delay_steps=lambda k: 2, delay_estimate_ns=2 * DT_NS)
    loop.run(12)
    assert not any(r.is_projected or r.prefix for r in loop.requests)
    # Rows 0 and 1 of every chunk but the first are past when it comes; the offset fades.
    starts = [r.target0_ns // DT_NS for r in loop.requests]
    assert starts[1] == 2
    assert np.diff(starts[1:]).tolist() == [2] * (len(starts) - 2)
    assert strategy.began_ns // DT_NS == starts[len(starts) - 2]
    assert strategy.late_joins == 0


@pytest.mark.parametrize("is_guided", [True, False])
def test_timed_projects_only_for_a_policy_that_takes_such_states(is_guided: bool) -> None:
    policy = able(is_guided=is_guided, has_vjp=is_guided, trained_prefix_max=0)
    for takes in (True, False):
        strategy = timed(replace(policy, takes_projected_state=takes), continuous_below_s=1.0)
        loop = Loop(
            strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
        )
        loop.run(5)
        assert loop.requests[1].is_projected == takes
        assert (loop.requests[1].guidance is Guidance.IDENTITY) == is_guided


@pytest.mark.parametrize(("delay_steps", "asks_on_the_way"), [(4, True), (5, False)])
def test_timed_without_projection_wants_the_rows_it_commits_to(
    delay_steps: int, asks_on_the_way: bool
) -> None:
    """A chunk of 8 rows that comes after 5 has no 4 left: the next is asked for at rest."""
    strategy = timed(capabilities(), continuous_below_s=9.0, projection="none", execution_horizon=4)
    loop = Loop(
        strategy,
        numbered,
        delay_steps=lambda k: delay_steps,
        delay_estimate_ns=delay_steps * DT_NS,
    )
    loop.run(delay_steps + 12)
    asked = loop.requests[1]
    plan_ends = delay_steps + 7
    assert (asked.target0_ns < plan_ends * DT_NS) == asks_on_the_way
    if not asks_on_the_way:
        # At rest, for rows from the arrival on.
        assert asked.target0_ns >= (plan_ends + delay_steps) * DT_NS


@pytest.mark.parametrize(
    ("says", "is_set", "wanted"),
    [(0, 0, H // 2), (6, 0, 6), (6, 3, 3)],
    ids=["half", "says", "set"],
)
def test_timed_commits_to_as_many_rows_as_is_set_or_the_policy_says(
    says: int, is_set: int, wanted: int
) -> None:
    """A chunk is asked for on the way as long as it comes with that many rows left."""
    for delay_steps in (H - wanted, H - wanted + 1):
        policy = capabilities(execution_rows=says)
        strategy = timed(policy, continuous_below_s=9.0, execution_horizon=is_set)
        loop = Loop(
            strategy,
            numbered,
            delay_steps=lambda k, n=delay_steps: n,
            delay_estimate_ns=delay_steps * DT_NS,
        )
        loop.run(delay_steps + 12)
        asks_on_the_way = loop.requests[1].target0_ns < (delay_steps + H - 1) * DT_NS
        assert asks_on_the_way == (delay_steps == H - wanted)


def test_timed_without_projection_is_guided_as_rtc_is() -> None:
    strategy = timed(able(), projection="none", continuous_below_s=1.0, bound_rows=2)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(5)
    asked = loop.requests[1]
    assert asked.guidance is Guidance.IDENTITY
    assert not asked.is_projected
    assert asked.prefix is not None
    assert asked.prefix.frozen_len == 2
    weights = asked.prefix.weights
    assert (weights[:2] == 1.0).all()
    assert (weights[4:] == 0.0).all()
    assert asked.prefix.rows.target0_ns == asked.target0_ns


def test_timed_asks_the_fast_half_at_every_step() -> None:
    strategy = timed(capabilities(has_split_latent=True))
    loop = Loop(strategy, numbered, delay_estimate_ns=DT_NS // 10)
    loop.run(6)
    assert len(loop.requests) == 6
    assert all(r.guidance is Guidance.NONE and not r.is_projected for r in loop.requests)
    assert not np.isnan(executed_x(loop.plans)).any()


def test_timed_has_a_clean_prefix_even_without_delay() -> None:
    """Nothing is due before a result that comes at once, and nothing would tie the chunks."""
    loop = Loop(timed(able(has_vjp=False, is_guided=False)), numbered)
    loop.run(4)
    prefix = loop.requests[-1].prefix
    assert prefix is not None
    assert prefix.frozen_len == 1


def test_a_chunk_that_is_all_past_changes_nothing() -> None:
    strategy = timed()
    loop = Loop(strategy, numbered, delay_steps=lambda k: 9 if k else 0)
    loop.run(7)
    began_ns, asked = strategy.began_ns, loop.requests[1]
    strategy.offer(numbered(asked), asked, asked.target0_ns + 8 * DT_NS)
    assert strategy.began_ns == began_ns
    assert strategy.late_joins == 0
