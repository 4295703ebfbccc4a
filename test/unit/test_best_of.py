# SPDX-License-Identifier: Apache-2.0
"""More candidates with a truthful scorer, with a random one, and under a deadline."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from composition_samples import (
    MEANS,
    SPACE,
    H,
    Table,
    candidates_of,
    flow,
    request_of,
    table_of,
)
from strategy_samples import DT_NS, make_chunk

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.clock import ManualClock
from vla_ros.errors import ConfigError, PolicyError, ShapeError
from vla_ros.policies.anytime import PaceConfig
from vla_ros.policies.composition.best_of import BestOf, BestOfConfig, Selection, flow_sampler
from vla_ros.policies.composition.kernel_density import KernelDensity
from vla_ros.report.statistics import mcnemar_p
from vla_ros.types import ActionChunk

MS = 1_000_000
N = 100
KS = (1, 4, 16, 64)
ALWAYS = ManualClock(0)  # a clock that stands still: there is always time


class Truthful:
    name = "truth"

    def __init__(self, table: Table) -> None:
        self._table = table

    def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
        return self._table.distance_m(chunk)


class Random:
    name = "random"

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 9])

    def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
        return float(self._random.random())


def choose(sample: object, scorer: object, k: int) -> Selection:
    config = BestOfConfig(candidates=k, pace=PaceConfig(first_ms=0.0))
    best_of = BestOf(sample, scorer, config)  # type: ignore[arg-type]
    return best_of.choose(request_of(), 10**12, ALWAYS.now_ns)


@pytest.fixture(scope="module")
def successes() -> dict[str, dict[int, list[bool]]]:
    """By scorer and K, on the same seeds; a policy that knows little: about one in six succeeds."""
    found: dict[str, dict[int, list[bool]]] = {s: {k: [] for k in KS} for s in ("truth", "random")}
    for seed in range(N):
        table = table_of(seed)
        made = candidates_of(flow(table, 0.4, 0.4, seed), KS[-1])
        for scorer in (Truthful(table), Random(seed)):
            for k in KS:
                chosen = choose(lambda request, i, made=made: made[i], scorer, k).chunk
                assert chosen is not None
                found[scorer.name][k].append(table.is_solved_by(chosen))
    return found


def test_success_does_not_fall_with_k_and_rises_when_scores_are_true(
    successes: dict[str, dict[int, list[bool]]],
) -> None:
    truth = successes["truth"]
    for few, many in itertools.pairwise(KS):
        # Candidates are the same ones and more: on no seed can more of them be worse.
        assert all(b or not a for a, b in zip(truth[few], truth[many], strict=True))
    assert np.mean(truth[1]) < 0.3
    assert np.mean(truth[64]) > 0.9
    assert mcnemar_p(truth[64], truth[1]) < 1e-6


def test_a_random_scorer_gains_nothing(successes: dict[str, dict[int, list[bool]]]) -> None:
    by_chance = successes["random"]
    assert all(mcnemar_p(by_chance[k], by_chance[1]) > 0.05 for k in KS[1:])
    assert mcnemar_p(successes["truth"][64], by_chance[64]) < 1e-6


def test_one_candidate_is_the_chunk_of_the_policy() -> None:
    policy = flow(table_of(0), 0.5, 0.5, 7)
    chunk = choose(flow_sampler(policy), Random(0), 1).chunk
    assert chunk is not None
    np.testing.assert_array_equal(chunk.positions, guided_denoise(policy, request_of()).positions)


def test_candidates_have_noise_of_their_own_and_are_repeatable() -> None:
    policy = flow(table_of(0), 0.5, 0.5, 7)
    sample, expected = flow_sampler(policy, seed=1), candidates_of(policy, 4, seed=1)
    for k, chunk in enumerate(expected):
        found = sample(request_of(), k).positions
        np.testing.assert_allclose(found, chunk.positions, atol=1e-12)
        np.testing.assert_array_equal(found, sample(request_of(), k).positions)
    assert np.abs(expected[1].positions - expected[2].positions).max() > 1e-3


def test_no_deadline_is_missed_in_10000_calls_and_the_time_is_used() -> None:
    clock, chunk, request = ManualClock(), make_chunk(0, np.zeros(H)), request_of()
    drawn = np.random.default_rng(4).lognormal(0.0, 0.08, size=997)
    durations = itertools.cycle(np.rint(MS * np.clip(drawn, 0.8, 1.2)).astype(int).tolist())

    def sample(request: InferenceRequest, k: int) -> ActionChunk:
        clock.advance(next(durations))
        return chunk

    config = BestOfConfig(candidates=16, pace=PaceConfig(margin=1.5, first_ms=2.0))
    best_of = BestOf(sample, Random(0), config)
    late, empty, made = 0, 0, 0
    for _ in range(10_000):
        deadline_ns = clock.now_ns() + 5 * MS
        selection = best_of.choose(request, deadline_ns, clock.now_ns)
        late += selection.is_late or clock.now_ns() > deadline_ns
        empty += selection.chunk is None
        made += len(selection.scores)
        assert not selection.is_complete
    assert (late, empty) == (0, 0)
    assert made / 10_000 > 2.8


def test_without_time_nothing_is_chosen() -> None:
    clock = ManualClock()
    best_of = BestOf(flow_sampler(flow(table_of(0), 0.5, 0.5, 7)), Random(0))
    selection = best_of.choose(request_of(), clock.now_ns() + MS, clock.now_ns)
    assert selection.chunk is None
    assert selection.scores == ()


def test_unusable_candidates_are_passed_over() -> None:
    def sample(request: InferenceRequest, k: int) -> ActionChunk:
        if k == 1:
            raise PolicyError("out of memory")
        return make_chunk(0, np.full(H, np.nan if k == 2 else 0.1 * k))

    class LastIsBest:
        name = "x"

        def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
            return math.nan if chunk.positions[0, 0] > 0.35 else float(chunk.positions[0, 0])

    selection = choose(sample, LastIsBest(), 5)
    assert selection.chunk is not None
    assert selection.chunk.positions[0, 0] == pytest.approx(0.3)
    np.testing.assert_allclose(selection.scores, [0.0, math.nan, math.nan, 0.3, math.nan])
    assert choose(sample, LastIsBest(), 1).chunk is not None


def test_when_no_candidate_is_usable_nothing_is_chosen() -> None:
    class Undecided:
        name = "x"

        def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
            return math.nan

    selection = choose(lambda request, k: make_chunk(0, np.zeros(H)), Undecided(), 3)
    assert selection.chunk is None
    assert len(selection.scores) == 3


def test_density_prefers_what_was_demonstrated() -> None:
    rng = np.random.default_rng(2)
    known = MEANS[[0]] + 0.05 * rng.standard_normal((30, H, 7))  # one of four ways
    scorer = KernelDensity(known, SPACE)
    table = Table(obstacle=1.0, goal=-1.0)  # which that way solves
    alone, chosen = [], []
    for seed in range(40):
        made = candidates_of(flow(table, 0.5, 0.5, seed), 16)
        for k, results in ((1, alone), (16, chosen)):
            chunk = choose(lambda request, i, made=made: made[i], scorer, k).chunk
            assert chunk is not None
            results.append(table.is_solved_by(chunk))
    assert np.mean(alone) < 0.5
    assert np.mean(chosen) > 0.9


def test_density_of_one_kernel_is_gaussian() -> None:
    scorer = KernelDensity(MEANS[:1], SPACE, width=0.5)
    policy = flow(Table(1.0, 1.0), 0.5, 0.5, 0)
    moved = MEANS[0].copy()
    moved[:, 1] += 0.2
    expected = -(0.2**2) * H / (2 * 0.5**2 * H * 7)
    chunk = policy.from_model(moved, request_of())
    assert scorer.score(chunk, request_of()) == pytest.approx(expected)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="known chunks must be"):
        KernelDensity(np.zeros((0, H, 7)), SPACE)
    with pytest.raises(ConfigError, match="width"):
        KernelDensity(MEANS, SPACE, width=0.0)
    with pytest.raises(ShapeError, match="rows must be"):
        KernelDensity(MEANS, SPACE).score(make_chunk(0, np.zeros(3), dt_ns=DT_NS), request_of())
    with pytest.raises(ConfigError, match="candidates must be 1"):
        BestOfConfig(candidates=0)
