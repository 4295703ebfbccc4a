# SPDX-License-Identifier: Apache-2.0
"""Ensemble, consensus, real-time chunking and correction on small examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_samples import (
    DT_NS,
    H,
    Loop,
    able,
    capabilities,
    executed_x,
    make_chunk,
    random_chunk,
    situation,
)

from vla_ros.chunking.rows import row_times, sample
from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Situation
from vla_ros.chunking.strategies.consensus import Consensus, ConsensusSettings, agreed_rows
from vla_ros.chunking.strategies.denoising import prefix_weights
from vla_ros.chunking.strategies.learned_correction import DriftHead, LearnedCorrection
from vla_ros.chunking.strategies.naive import Naive, NaiveSettings
from vla_ros.chunking.strategies.prefix import make_prefix
from vla_ros.chunking.strategies.real_time_chunking import (
    LEROBOT,
    TRAINED,
    RealTimeChunking,
    RealTimeChunkingSettings,
)
from vla_ros.chunking.strategies.temporal_ensemble import (
    TemporalEnsemble,
    TemporalEnsembleSettings,
    ensemble,
)
from vla_ros.rotations import exp
from vla_ros.types import ActionChunk


def numbered(request: InferenceRequest) -> tuple[ActionChunk, ...]:
    """Row i of request number k is 100 k + i."""
    return (make_chunk(request.target0_ns, 100 * request.seq + np.arange(8.0)),)


def test_ensemble_weights_fall_from_the_oldest() -> None:
    strategy = TemporalEnsemble(capabilities(), TemporalEnsembleSettings(decay=0.5))
    loop = Loop(strategy, lambda r: (make_chunk(r.target0_ns, np.full(8, float(r.seq))),))
    loop.run(3)
    w = np.exp(-0.5 * np.arange(3))
    np.testing.assert_allclose(
        executed_x(loop.plans), [1.0, (1 + 2 * w[1]) / (1 + w[1]), w @ [1, 2, 3] / w.sum()]
    )


def test_ensemble_counts_only_chunks_that_have_a_row() -> None:
    old, new = make_chunk(0, [1.0, 1.0, 1.0]), make_chunk(DT_NS, [3.0, 3.0, 3.0])
    rows = ensemble([old, new], new, 0.0)
    np.testing.assert_allclose(rows.positions[:, 0], [2.0, 2.0, 3.0])


def test_ensemble_of_one_chunk_is_the_chunk() -> None:
    chunk = random_chunk(0, np.random.default_rng(0))
    rows = ensemble([chunk, chunk], chunk, 0.01)
    np.testing.assert_allclose(rows.positions, chunk.positions)
    np.testing.assert_allclose(rows.quats_xyzw, chunk.quats_xyzw, atol=1e-12)


def test_ensemble_aligns_signs_of_quaternions() -> None:
    chunk = random_chunk(0, np.random.default_rng(1))
    rows = ensemble([chunk, replace(chunk, quats_xyzw=-chunk.quats_xyzw)], chunk, 0.01)
    np.testing.assert_allclose(rows.quats_xyzw, chunk.quats_xyzw, atol=1e-12)


def test_ensemble_asks_at_every_step_that_has_room() -> None:
    for room, expected in ((1, 3), (4, 7)):
        strategy = TemporalEnsemble(capabilities(), TemporalEnsembleSettings(max_in_flight=room))
        loop = Loop(strategy, numbered, delay_steps=lambda k: 3)
        loop.run(7)
        assert len(loop.requests) == expected


def settings(**changes: object) -> ConsensusSettings:
    return ConsensusSettings(**{"position_mm": 10.0, "min_rows": 2, **changes})


def test_consensus_ends_where_a_candidate_leaves() -> None:
    first = make_chunk(0, np.zeros(8))
    leaving = make_chunk(0, [0, 0, 0, 0.009, 0.011, 0, 0, 0])
    assert agreed_rows((first, first), settings()) == 8
    assert agreed_rows((first, leaving), settings()) == 4
    assert agreed_rows((first, first, leaving), settings(position_mm=12.0)) == 8
    assert agreed_rows((first, make_chunk(0, np.ones(8))), settings()) == 2  # min_rows


def test_consensus_compares_orientations() -> None:
    first = make_chunk(0, np.zeros(8))
    spins = np.zeros((8, 3))
    spins[5:, 2] = 0.2
    turned = replace(first, quats_xyzw=exp(spins))
    assert agreed_rows((first, turned), settings(rotation_rad=0.1)) == 5
    assert agreed_rows((first, turned), settings(rotation_rad=0.3)) == 8


def test_consensus_needs_candidates_that_reach_so_far() -> None:
    """Horizons of 3 and 5 rows under a chunk of 8."""
    chunks = (make_chunk(0, np.zeros(8)), make_chunk(0, np.zeros(5)), make_chunk(0, np.zeros(3)))
    assert agreed_rows(chunks, settings(min_candidates=3)) == 3
    assert agreed_rows(chunks, settings(min_candidates=2)) == 5
    assert agreed_rows(chunks, settings(min_candidates=1)) == 8


def test_consensus_asks_so_that_agreed_rows_do_not_run_out() -> None:
    def answer(request: InferenceRequest) -> tuple[ActionChunk, ...]:
        x = np.arange(8.0)
        return (make_chunk(request.target0_ns, x), make_chunk(request.target0_ns, x + (x >= 5)))

    strategy = Consensus(able(), settings())
    loop = Loop(strategy, answer, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS)
    loop.run(9)
    # Rows 0 to 4 agree: asked at row 2, answered when row 4 is due, at which row 2 is due of the
    # new chunk, itself the step to ask again.
    assert [r.target0_ns // DT_NS for r in loop.requests] == [0, 2, 4, 6, 8]
    assert not np.isnan(executed_x(loop.plans)).any()


def rtc(**changes: object) -> RealTimeChunking:
    return RealTimeChunking(able(), RealTimeChunkingSettings(**changes))


def test_rtc_executes_prev_until_d_and_new_from_d() -> None:
    strategy = rtc(execution_horizon=3)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(9)
    np.testing.assert_array_equal(
        executed_x(loop.plans), [100, 101, 102, 103, 104, 202, 203, 204, 302]
    )


def test_rtc_conditions_on_the_rows_that_will_be_executed() -> None:
    strategy = rtc(execution_horizon=3, guidance="vjp")
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 2 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(4)
    first, second = loop.requests
    assert first.guidance is Guidance.NONE
    assert first.prefix is None
    assert second.guidance is Guidance.VJP
    assert second.prefix is not None
    assert second.prefix.frozen_len == 2
    # 3 of 8 rows are past: 5 are left, the last one repeated
    np.testing.assert_array_equal(
        second.prefix.rows.positions[:, 0], [103, 104, 105, 106, 107, 107, 107, 107]
    )
    np.testing.assert_allclose(second.prefix.weights, prefix_weights("exp", 2, 5, H))
    assert second.prefix.rows.target0_ns == second.target0_ns


def test_rtc_as_in_lerobot_ends_weights_at_its_execution_horizon() -> None:
    changed = replace(LEROBOT, weights_end=3, execution_horizon=2)
    loop = Loop(RealTimeChunking(able(), changed), numbered, delay_estimate_ns=DT_NS)
    loop.run(3)
    prefix = loop.requests[1].prefix
    assert prefix is not None
    np.testing.assert_allclose(prefix.weights, prefix_weights("linear", 1, 3, H))
    assert prefix.max_guidance_weight == 10.0
    assert loop.requests[1].guidance is Guidance.IDENTITY


def test_rtc_freezes_no_more_than_there_is() -> None:
    loop = Loop(rtc(execution_horizon=6), numbered, delay_estimate_ns=20 * DT_NS)
    loop.run(7)
    prefix = loop.requests[1].prefix
    assert prefix is not None
    assert prefix.frozen_len == 2
    np.testing.assert_array_equal(prefix.weights, [1, 1, 0, 0, 0, 0, 0, 0])


def test_rtc_trained_caps_the_prefix_and_fades_a_late_seam() -> None:
    changed = replace(TRAINED, execution_horizon=2)
    strategy = RealTimeChunking(able(trained_prefix_max=2), changed)
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 4 if k else 0, delay_estimate_ns=4 * DT_NS
    )
    loop.run(7)
    prefix = loop.requests[1].prefix
    assert prefix is not None
    assert prefix.frozen_len == 2
    np.testing.assert_array_equal(prefix.weights, [1, 1, 0, 0, 0, 0, 0, 0])
    assert strategy.late_joins == 1
    x = executed_x(loop.plans)
    assert x[6] == pytest.approx(106.0)  # 204 would be a jump; admitted where the old rows are
    rows = loop.plans[6]
    assert rows is not None
    assert 106.0 < sample(rows, np.array([8 * DT_NS])).positions[0, 0] < 206.0


def test_rtc_trained_does_not_fade_in_time() -> None:
    strategy = RealTimeChunking(able(), replace(TRAINED, execution_horizon=2))
    loop = Loop(
        strategy, numbered, delay_steps=lambda k: 1 if k else 0, delay_estimate_ns=2 * DT_NS
    )
    loop.run(4)
    assert executed_x(loop.plans)[3] == 201.0
    assert strategy.late_joins == 0


@given(st.integers(0, 12), st.integers(0, 40), st.integers(0, 12), st.integers(0, 5))
def test_prefix_is_the_plan_on_the_grid_of_the_request(
    start: int, delay: int, end: int, limit: int
) -> None:
    plan = make_chunk(0, np.arange(8.0))
    prefix = make_prefix(
        plan,
        target0_ns=start * DT_NS,
        horizon=H,
        arrival_ns=(start + delay) * DT_NS,
        schedule="exp",
        end=end,
        frozen_max=limit,
    )
    left = 8 - start
    if left < 1:
        assert prefix is None
        return
    assert prefix is not None
    frozen = min(delay, left)
    assert prefix.frozen_len == (min(frozen, limit) if limit else frozen)
    np.testing.assert_array_equal(
        prefix.rows.positions[:, 0], np.minimum(start + np.arange(8.0), 7.0)
    )
    assert (prefix.weights[: prefix.frozen_len] == 1.0).all()
    assert (prefix.weights[left:] == 0.0).all()


def corrected(head: object, rows_ahead: int = 2) -> LearnedCorrection:
    inner = Naive(capabilities(), NaiveSettings(execution_horizon=8))
    return LearnedCorrection(inner, head, rows_ahead=rows_ahead)  # type: ignore[arg-type]


def test_correction_moves_rows_by_what_was_seen_since() -> None:
    strategy = corrected(DriftHead(np.array([0.2, 0.0, 0.0])))
    loop = Loop(strategy, numbered)
    loop.run(4)
    age_s = 3e-9 * DT_NS
    assert executed_x(loop.plans)[3] == pytest.approx(103.0 + 0.2 * age_s)
    rows = loop.plans[3]
    assert rows is not None  # the rest is carried along, so that no kink runs ahead of the arm
    np.testing.assert_allclose(
        rows.positions[:, 0], 102 + np.arange(rows.horizon) + 0.2 * age_s, rtol=1e-12
    )


def test_correction_is_told_index_and_age() -> None:
    told: list[tuple[int, float, int]] = []

    class Listener:
        def correct(
            self, observation: object, row: ActionChunk, index: float, age_ns: int
        ) -> ActionChunk:
            told.append((int(row.positions[0, 0]), index, age_ns))
            turned = exp(np.array([[0.0, 0.0, 0.1 * index]]))
            return replace(row, quats_xyzw=turned, gripper_width_m=np.zeros(1))

    loop = Loop(corrected(Listener(), rows_ahead=3), numbered)
    loop.run(3)
    assert told[-3:] == [(102, 2 / 7, 2 * DT_NS), (103, 3 / 7, 2 * DT_NS), (104, 4 / 7, 2 * DT_NS)]
    rows = loop.plans[2]
    assert rows is not None
    np.testing.assert_array_equal(rows.gripper_width_m[1:4], 0.0)
    np.testing.assert_array_equal(rows.gripper_width_m[4:], 0.04)
    np.testing.assert_allclose(rows.quats_xyzw[4:], exp(np.array([[0, 0, 0.4 / 7]] * 3)))


def test_correction_without_rows_is_none() -> None:
    strategy = corrected(DriftHead(np.zeros(3)))
    now: Situation = situation(0)
    assert strategy.plan(now) is None
    loop = Loop(strategy, numbered)
    loop.run(2)
    strategy.reset()
    assert strategy.plan(situation(2 * DT_NS)) is None
    assert row_times(make_chunk(0, [0.0])).tolist() == [0]
