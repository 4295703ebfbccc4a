# SPDX-License-Identifier: Apache-2.0
"""Synchronous, naive and the counting client, with queue contents computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from strategy_samples import (
    DT_NS,
    Loop,
    capabilities,
    executed_x,
    make_chunk,
    situation,
)

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.naive import Naive, NaiveSettings
from vla_ros.chunking.strategies.synchronous import Synchronous, SynchronousSettings
from vla_ros.chunking.strategies.weighted_average import (
    WeightedAverage,
    WeightedAverageSettings,
)
from vla_ros.errors import ConfigError
from vla_ros.rotations import exp
from vla_ros.types import ActionChunk


def numbered(request: InferenceRequest) -> tuple[ActionChunk, ...]:
    """Row i of request number k is 100 k + i."""
    return (make_chunk(request.target0_ns, 100 * request.seq + np.arange(8.0)),)


def client(**settings: object) -> WeightedAverage:
    return WeightedAverage(capabilities(), WeightedAverageSettings(**settings))


def test_synchronous_runs_s_rows_from_arrival_and_rests_while_thinking() -> None:
    strategy = Synchronous(capabilities(), SynchronousSettings(execution_horizon=4))
    loop = Loop(strategy, numbered, delay_steps=lambda k: 2)
    loop.run(10)
    nan = float("nan")
    np.testing.assert_array_equal(
        executed_x(loop.plans), [nan, nan, 100, 101, 102, nan, nan, 200, 201, 202]
    )
    assert [r.target0_ns // DT_NS for r in loop.requests] == [0, 5]


def test_synchronous_executes_the_last_row_before_it_thinks() -> None:
    strategy = Synchronous(capabilities(), SynchronousSettings(execution_horizon=2))
    request = strategy.request(situation(0))
    assert request is not None
    strategy.offer(numbered(request), request, 0)
    rows = strategy.plan(situation(0))
    assert rows is not None
    assert rows.horizon == 2
    assert strategy.request(situation(DT_NS - 1)) is None
    assert strategy.request(situation(DT_NS)) is not None


def test_naive_executes_prev_until_d_and_new_from_d() -> None:
    strategy = Naive(capabilities(), NaiveSettings(execution_horizon=3))
    loop = Loop(strategy, numbered, delay_steps=lambda k: 0 if k == 0 else 2)
    loop.run(9)
    # request 2 at step 3, there at step 5: rows 0 and 1 of it are never executed
    np.testing.assert_array_equal(
        executed_x(loop.plans), [100, 101, 102, 103, 104, 202, 203, 204, 302]
    )


def test_naive_from_zero_executes_every_chunk_late() -> None:
    strategy = Naive(capabilities(), NaiveSettings(execution_horizon=3, from_zero=True))
    loop = Loop(strategy, numbered, delay_steps=lambda k: 0 if k == 0 else 2)
    loop.run(8)
    np.testing.assert_array_equal(executed_x(loop.plans), [100, 101, 102, 103, 104, 200, 201, 202])


def test_naive_asks_always_when_the_horizon_is_zero() -> None:
    loop = Loop(Naive(capabilities(), NaiveSettings()), numbered, delay_steps=lambda k: 2)
    loop.run(7)
    assert [r.target0_ns // DT_NS for r in loop.requests] == [0, 2, 4, 6]


def test_naive_discards_a_chunk_whose_rows_are_all_past() -> None:
    loop = Loop(
        Naive(capabilities(), NaiveSettings()), numbered, delay_steps=lambda k: 8 if k else 0
    )
    loop.run(12)
    x = executed_x(loop.plans)
    np.testing.assert_array_equal(x[:8], 100 + np.arange(8.0))
    assert all(math.isnan(value) for value in x[8:])


def test_naive_starts_the_first_chunk_at_its_arrival() -> None:
    loop = Loop(Naive(capabilities(), NaiveSettings()), numbered, delay_steps=lambda k: 3)
    loop.run(6)
    np.testing.assert_array_equal(executed_x(loop.plans)[3:6], [100, 101, 102])


def test_naive_keeps_the_running_rows_when_an_older_result_arrives_late() -> None:
    strategy = Naive(capabilities(), NaiveSettings())
    first = strategy.request(situation(0))
    second = strategy.request(situation(DT_NS))
    assert first is not None
    assert second is not None
    strategy.offer(numbered(second), second, 2 * DT_NS)
    strategy.offer(numbered(first), first, 2 * DT_NS)
    assert executed_x([strategy.plan(situation(2 * DT_NS))], 2 * DT_NS) == [200]


def test_client_aggregates_equal_numbers_and_discards_the_rest() -> None:
    strategy = client(chunk_size_threshold=0.7)
    first = strategy.request(situation(0))
    assert first is not None
    strategy.offer((make_chunk(0, [10.0, 20.0, 30.0, 40.0, 50.0]),), first, 0)
    assert strategy.queue_numbers == [0, 1, 2, 3, 4]
    strategy.plan(situation(0))  # executes number 0
    strategy.plan(situation(DT_NS))  # executes number 1; 3 of 5 are left: below 0.7
    second = strategy.request(situation(2 * DT_NS))
    assert second is not None
    strategy.plan(situation(2 * DT_NS))  # executes number 2 while the policy infers
    # Numbers 1 to 4 arrive: 1 and 2 are executed already, 3 and 4 are aggregated.
    strategy.offer((make_chunk(0, [1.0, 2.0, 3.0, 4.0]),), second, 3 * DT_NS)
    rows = strategy.plan(situation(3 * DT_NS))
    assert rows is not None
    aggregated = [0.3 * 40 + 0.7 * 3, 0.3 * 50 + 0.7 * 4]
    np.testing.assert_allclose(rows.positions[:, 0], [30.0, *aggregated], rtol=1e-12)
    assert rows.target0_ns == 2 * DT_NS  # the executed one, for the twist of the next
    assert strategy.queue_numbers == [4]


def test_client_discards_old_numbers_beyond_the_new_chunk() -> None:
    strategy = client(chunk_size_threshold=1.0)
    first = strategy.request(situation(0))
    assert first is not None
    strategy.offer((make_chunk(0, np.arange(8.0)),), first, 0)
    strategy.plan(situation(0))
    strategy.plan(situation(DT_NS))
    second = strategy.request(situation(2 * DT_NS))
    assert second is not None
    strategy.offer((make_chunk(0, [7.0, 7.0, 7.0]),), second, 2 * DT_NS)
    assert strategy.queue_numbers == [2, 3]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("weighted_average", 17.0), ("latest_only", 20.0), ("average", 15.0), ("conservative", 13.0)],
)
def test_client_aggregates(aggregate: str, expected: float) -> None:
    strategy = client(aggregate=aggregate, chunk_size_threshold=1.0)
    first = strategy.request(situation(0))
    assert first is not None
    strategy.offer((make_chunk(0, np.full(8, 10.0)),), first, 0)
    strategy.plan(situation(0))
    strategy.plan(situation(DT_NS))
    second = strategy.request(situation(2 * DT_NS))
    assert second is not None
    strategy.offer((make_chunk(0, np.full(8, 20.0)),), second, 2 * DT_NS)
    rows = strategy.plan(situation(2 * DT_NS))
    assert rows is not None
    assert rows.positions[1, 0] == pytest.approx(expected)


def test_client_averages_quaternions_linearly_without_aligning_signs() -> None:
    strategy = client(chunk_size_threshold=1.0)
    first = strategy.request(situation(0))
    assert first is not None
    chunk = make_chunk(0, np.zeros(8))
    strategy.offer((chunk,), first, 0)
    strategy.plan(situation(0))
    strategy.plan(situation(DT_NS))
    second = strategy.request(situation(2 * DT_NS))
    assert second is not None
    turned = exp(np.tile([0.0, 0.0, 0.2], (8, 1)))
    strategy.offer((replace(chunk, quats_xyzw=-turned),), second, 2 * DT_NS)
    rows = strategy.plan(situation(2 * DT_NS))
    assert rows is not None
    linear = 0.3 * chunk.quats_xyzw[0] - 0.7 * turned[0]
    np.testing.assert_allclose(rows.quats_xyzw[1], linear / np.linalg.norm(linear), atol=1e-12)


def test_client_holds_its_last_target_when_the_queue_is_empty() -> None:
    strategy = client()
    first = strategy.request(situation(0))
    assert first is not None
    assert strategy.plan(situation(0)) is None
    strategy.offer((make_chunk(0, [1.0, 2.0]),), first, 0)
    strategy.plan(situation(0))
    strategy.plan(situation(DT_NS))
    held = strategy.plan(situation(5 * DT_NS))
    assert held is not None
    np.testing.assert_array_equal(held.positions[:, 0], [2.0] * 4)
    assert held.target0_ns == 5 * DT_NS


def test_client_clock_stops_while_it_starves() -> None:
    """Late by four steps, yet after two held steps the next number is executed, not the due row."""
    loop = Loop(client(chunk_size_threshold=0.3), numbered, delay_steps=lambda k: 4)
    loop.run(18)
    # Step 10: 2 of 8 are left and number 5 is executed, so the new chunk begins with number 5. It
    # comes at step 14; 7 was held at 12 and 13; its row 3 is number 8, by time row 4 would be due.
    expected = [*100 + np.arange(8.0), 107, 107, 203, 204, 205, 206]
    np.testing.assert_array_equal(executed_x(loop.plans)[4:], expected)
    # What was sent at step 13, while the first was inferred, is inferred as soon as that is done.
    assert [r.target0_ns // DT_NS for r in loop.requests] == [0, 10, 13]


def test_client_must_go_passes_the_filter_of_predicted_numbers() -> None:
    strategy = client()
    first = strategy.request(situation(0))
    assert first is not None
    assert strategy.request(situation(DT_NS, in_flight=1)) is None
    strategy.offer((make_chunk(0, [1.0]),), first, DT_NS)
    strategy.plan(situation(DT_NS))
    # Number 0 was predicted already, but the queue is empty and the chunk armed must_go.
    assert strategy.request(situation(2 * DT_NS)) is not None
    assert strategy.request(situation(3 * DT_NS)) is None


def test_client_does_not_ask_twice_for_a_number() -> None:
    strategy = client(chunk_size_threshold=1.0)
    first = strategy.request(situation(0))
    assert first is not None
    strategy.offer((make_chunk(0, np.arange(8.0)),), first, 0)
    strategy.plan(situation(0))
    assert strategy.request(situation(DT_NS)) is None  # number 0 again
    strategy.plan(situation(DT_NS))
    assert strategy.request(situation(2 * DT_NS)) is not None


def test_client_similarity_filter_stops_an_arm_in_radians() -> None:
    for is_on, expected in ((False, 1), (True, 0)):
        strategy = client(chunk_size_threshold=1.0, similarity_filter=is_on)
        first = strategy.request(situation(0))
        assert first is not None
        strategy.offer((make_chunk(0, np.arange(8.0)),), first, 0)
        strategy.plan(situation(0))
        strategy.plan(situation(DT_NS))
        asked = strategy.request(situation(2 * DT_NS, x=0.1))  # 0.26 rad in norm
        assert int(asked is not None) == expected


def test_client_sends_the_newest_observation_that_waited_at_the_server() -> None:
    strategy = client(chunk_size_threshold=1.0)
    first = strategy.request(situation(0))
    assert first is not None
    strategy.offer((make_chunk(0, np.arange(8.0)),), first, 0)
    strategy.plan(situation(0))
    strategy.plan(situation(DT_NS))
    assert strategy.request(situation(2 * DT_NS, in_flight=1)) is None
    strategy.plan(situation(2 * DT_NS))
    assert strategy.request(situation(3 * DT_NS, in_flight=1)) is None
    asked = strategy.request(situation(3 * DT_NS))
    assert asked is not None
    assert asked.target0_ns == 3 * DT_NS


def test_client_asks_again_after_a_lost_result_only_when_told_to() -> None:
    for rearm_s, expected in ((0.0, 1), (0.5, 4)):
        loop = Loop(client(rearm_s=rearm_s), numbered, delay_steps=lambda k: None)
        loop.run(40)
        assert len(loop.requests) == expected


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="chunk_size_threshold"):
        WeightedAverageSettings(chunk_size_threshold=1.5)
    with pytest.raises(ConfigError, match="aggregate"):
        WeightedAverageSettings(aggregate="median")
    with pytest.raises(ConfigError, match="execution_horizon"):
        NaiveSettings(execution_horizon=-1)
