# SPDX-License-Identifier: Apache-2.0
"""What every strategy must do, whatever the delays, losses and duplicates of results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_samples import (
    DT_NS,
    H,
    Loop,
    able,
    capabilities,
    make_chunk,
    random_chunk,
    situation,
)

from vla_ros.chunking.rows import end_ns, row_times
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Strategy
from vla_ros.chunking.strategies.learned_correction import DriftHead
from vla_ros.chunking.strategies.registry import make_strategy, strategy_names
from vla_ros.chunking.strategies.seam_fade import SeamFadeSettings
from vla_ros.chunking.strategies.timed import TimedSettings
from vla_ros.types import ActionChunk

Make = Callable[[], Strategy]
BY_TIME = TimedSettings(projection="none")


def maker(
    name: str, policy: PolicyCapabilities, is_faded: bool, settings: object | None = None
) -> Make:
    fade = SeamFadeSettings() if is_faded else None
    head = DriftHead(np.array([0.01, 0.0, 0.0]))
    return lambda: make_strategy(name, policy, settings, head=head, fade=fade)


MAKERS: dict[str, Make] = {
    **{name: maker(name, able(), False) for name in strategy_names()},
    **{f"{name}+fade": maker(name, able(), True) for name in strategy_names()},
    "timed of a split policy": maker("timed", capabilities(has_split_latent=True), False),
    "timed of a bare policy": maker("timed", capabilities(), False),
    "timed of a guided policy": maker("timed", able(trained_prefix_max=0), False),
    "timed by time alone": maker("timed", capabilities(), False, BY_TIME),
    "timed by time, guided": maker("timed", able(trained_prefix_max=0), False, BY_TIME),
}

every_strategy = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def answer(request: InferenceRequest) -> tuple[ActionChunk, ...]:
    rng = np.random.default_rng(request.seq)
    first = random_chunk(request.target0_ns, rng)
    return (first, random_chunk(request.target0_ns, rng), random_chunk(request.target0_ns, rng, 5))


def make_loop(make: Make, delays: list[int | None], repeats: list[bool]) -> Loop:
    return Loop(
        make(),
        answer,
        delay_steps=lambda k: delays[k % len(delays)],
        twice=lambda k: repeats[k % len(repeats)],
        delay_estimate_ns=2 * DT_NS,
        now_ns=1_000_000_000,
    )


delays = st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=12)
step_times = st.sampled_from([DT_NS, DT_NS + 1_700_001, DT_NS - 900_001, DT_NS // 3])  # a late loop
repeats = st.lists(st.booleans(), min_size=1, max_size=5)


@every_strategy
@given(delays=delays, repeats=repeats, step_ns=step_times)
@settings(max_examples=15, deadline=None)
def test_rows_are_valid_under_any_delays(
    make: Make, delays: list[int | None], repeats: list[bool], step_ns: int
) -> None:
    loop = make_loop(make, delays, repeats)
    loop.dt_ns = step_ns
    for _ in range(30):
        now_ns = loop.now_ns
        rows = loop.step()
        if rows is None:
            continue
        assert (np.diff(row_times(rows)) > 0).all()
        assert end_ns(rows) >= now_ns
        assert np.isfinite(rows.positions).all()
        assert np.isfinite(rows.gripper_width_m).all()
        np.testing.assert_allclose(np.linalg.norm(rows.quats_xyzw, axis=1), 1.0, atol=1e-9)
        assert rows.horizon <= 3 * H


@every_strategy
@given(delays=delays, repeats=repeats)
@settings(max_examples=5, deadline=None)
def test_the_same_calls_give_the_same_rows(
    make: Make, delays: list[int | None], repeats: list[bool]
) -> None:
    loops = [make_loop(make, delays, repeats) for _ in range(2)]
    for _ in range(25):
        a, b = (loop.step() for loop in loops)
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.target0_ns == b.target0_ns
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.quats_xyzw, b.quats_xyzw)
    numbers = [[r.seq for r in loop.requests] for loop in loops]
    assert numbers[0] == numbers[1]
    assert len(set(numbers[0])) == len(numbers[0])


@every_strategy
def test_no_row_of_before_a_reset_is_returned(make: Make) -> None:
    loop = make_loop(make, [2], [True])
    for _ in range(6):
        loop.step()
    assert loop.plans[-1] is not None
    before = list(loop.requests)
    loop.strategy.reset()
    assert loop.strategy.plan(situation(loop.now_ns)) is None
    for request in before:
        loop.strategy.offer(answer(request), request, loop.now_ns)
        assert loop.strategy.plan(situation(loop.now_ns)) is None


@every_strategy
def test_after_a_reset_it_behaves_as_new(make: Make) -> None:
    used, new = make_loop(make, [1], [False]), make_loop(make, [1], [False])
    for _ in range(6):
        used.step()
    used.strategy.reset()
    fresh = Loop(
        used.strategy, lambda r: answer_from(r, used), delay_steps=lambda k: 1, now_ns=used.now_ns
    )
    new.now_ns = used.now_ns
    new.delay_estimate_ns = 0
    for _ in range(8):
        a, b = fresh.step(), new.step()
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.target0_ns == b.target0_ns
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-12)


def answer_from(request: InferenceRequest, used: Loop) -> tuple[ActionChunk, ...]:
    """Numbers of requests go on after a reset; the answers shall not depend on that."""
    rng = np.random.default_rng(request.seq - used.requests[-1].seq)
    first = random_chunk(request.target0_ns, rng)
    return (first, random_chunk(request.target0_ns, rng), random_chunk(request.target0_ns, rng, 5))


@every_strategy
def test_it_executes_rows_when_inference_is_fast(make: Make) -> None:
    loop = make_loop(make, [0], [False])
    loop.delay_estimate_ns = 0
    loop.run(40)
    assert sum(rows is not None for rows in loop.plans) >= 35


@every_strategy
def test_it_goes_on_after_lost_results(make: Make) -> None:
    loop = make_loop(make, [1, None, None, 1, 1, None, 1], [False])
    loop.run(60)
    resumed = sum(rows is not None for rows in loop.plans[-30:])
    assert resumed >= 10


@every_strategy
def test_a_stranger_s_result_is_ignored(make: Make) -> None:
    strategy = make()
    foreign = InferenceRequest(
        observation=situation(0).observation, target0_ns=0, dt_ns=DT_NS, seq=77
    )
    strategy.offer((make_chunk(0, np.ones(8)),), foreign, 0)
    strategy.offer((), foreign, 0)
    assert strategy.plan(situation(0)) is None


@every_strategy
def test_inputs_are_not_written_to(make: Make) -> None:
    chunks: list[tuple[ActionChunk, ActionChunk]] = []

    def remembered(request: InferenceRequest) -> tuple[ActionChunk, ...]:
        answers, copies = answer(request), answer(request)
        chunks.extend(zip(answers, copies, strict=True))
        return answers

    loop = make_loop(make, [1, 3, 0], [False])
    loop.answer = remembered
    loop.run(20)
    for chunk, copy in chunks:
        np.testing.assert_array_equal(chunk.positions, copy.positions)
        np.testing.assert_array_equal(chunk.quats_xyzw, copy.quats_xyzw)
        np.testing.assert_array_equal(chunk.gripper_width_m, copy.gripper_width_m)
