# SPDX-License-Identifier: Apache-2.0
"""Best answer by a deadline, with steps whose durations are drawn and a clock that they move."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from strategy_samples import DT_NS, H, make_chunk, make_observation

from vla_ros.clock import ManualClock
from vla_ros.errors import ConfigError, PolicyTimeoutError
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.anytime import (
    AnytimeAnswer,
    AnytimeFastPolicy,
    DeadlinePace,
    PaceConfig,
    refine_until,
)
from vla_ros.types import ActionChunk, Latent, Observation

MS = 1_000_000
OBSERVATION = make_observation()
LATENT = Latent(tensors={}, stamp=LatencyStamp(kind=StampKind.LATENT))


@dataclass
class Descent:
    """Energies fall, with noise: the last answer is not always the best. Steps take time."""

    clock: ManualClock
    random: np.random.Generator
    n_steps: int = 100
    mean_ms: float = 1.0
    spike_share: float = 0.0
    energies: list[float] = field(default_factory=list)

    def first(self, observation: Observation) -> float:
        self.energies = [1.0]
        return 1.0

    def refine(self, candidate: float, step: int) -> float:
        factor = float(np.clip(self.random.lognormal(0.0, 0.1), 0.7, 1.4))
        if self.random.random() < self.spike_share:
            factor *= 1.5
        self.clock.advance(round(self.mean_ms * factor * MS))
        self.energies.append(math.exp(-0.1 * step) + 0.3 * float(self.random.random()))
        return self.energies[-1]

    def energy(self, candidate: float) -> float:
        return candidate


def answers(
    deadline_ms: float, n_steps: int, calls: int, pace: DeadlinePace | None = None, **model: float
) -> list[AnytimeAnswer[float]]:
    clock = ManualClock()
    descent = Descent(clock, np.random.default_rng(n_steps), n_steps, **model)  # type: ignore[arg-type]
    pace = pace or DeadlinePace()
    found = []
    for _ in range(calls):
        deadline_ns = clock.now_ns() + round(deadline_ms * MS)
        answer = refine_until(descent, OBSERVATION, deadline_ns, clock.now_ns, pace)
        assert answer.energy == answer.best == min(descent.energies)
        assert answer.steps == len(descent.energies) - 1
        found.append(answer)
    return found


@pytest.mark.parametrize("n_steps", [2, 5, 10, 50, 100])
@pytest.mark.parametrize("deadline_ms", [10.0, 20.0, 50.0, 100.0])
def test_deadlines_are_kept_and_used(deadline_ms: float, n_steps: int) -> None:
    found = answers(deadline_ms, n_steps, 200, mean_ms=2.0, spike_share=0.01)
    assert sum(answer.is_late for answer in found) < 0.01 * len(found)
    possible = min(n_steps, deadline_ms / 2.0)
    assert np.mean([answer.steps for answer in found]) > 0.6 * possible
    assert all(answer.is_complete == (answer.steps == n_steps) for answer in found)


def test_a_fixed_number_of_steps_would_miss_deadlines() -> None:
    """The control: the same model without a pace."""

    class Careless(DeadlinePace):
        def fits(self, now_ns: int, deadline_ns: int) -> bool:
            return True

    found = answers(20.0, 10, 200, Careless(), mean_ms=2.0, spike_share=0.01)
    assert sum(answer.is_late for answer in found) > 0.3 * len(found)


def test_more_time_gives_better_answers() -> None:
    mean = [
        float(np.mean([a.energy for a in answers(deadline_ms, 100, 100)]))
        for deadline_ms in (5.0, 20.0, 80.0)
    ]
    assert mean[0] > mean[1] > mean[2]


def test_without_time_there_is_the_first_answer() -> None:
    (answer,) = answers(1.0, 10, 1, DeadlinePace(PaceConfig(first_ms=5.0)))
    assert (answer.steps, answer.best, answer.is_complete, answer.is_late) == (0, 1.0, False, False)


def test_after_a_stall_steps_are_taken_again() -> None:
    pace = DeadlinePace(PaceConfig(first_ms=1.0))
    pace.add(5_000 * MS)
    found = answers(50.0, 10, 3, pace)
    assert [answer.steps > 0 for answer in found] == [False, True, True]


def test_unusable_answers_are_never_the_best() -> None:
    class Unsure(Descent):
        def energy(self, candidate: float) -> float:
            return math.nan if candidate < 0.5 else candidate

    clock = ManualClock()
    model = Unsure(clock, np.random.default_rng(0), 20)
    answer = refine_until(
        model, OBSERVATION, clock.now_ns() + 1000 * MS, clock.now_ns, DeadlinePace()
    )
    assert answer.energy == min(e for e in model.energies if e >= 0.5)
    assert min(model.energies) < 0.5


class RowDescent:
    """Rows that get nearer to 0.1 m in x with every step; unusable before the third."""

    n_steps = 50

    def __init__(self, clock: ManualClock) -> None:
        self._clock, self._steps = clock, 0

    def first(self, observation: Observation) -> ActionChunk:
        return make_chunk(observation.state.tick_ns, np.zeros(H))

    def refine(self, candidate: ActionChunk, step: int) -> ActionChunk:
        self._clock.advance(2 * MS)
        self._steps += 1
        x = candidate.positions[:, 0]
        return make_chunk(candidate.target0_ns, x + 0.3 * (0.1 - x))

    def energy(self, candidate: ActionChunk) -> float:
        return float(abs(candidate.positions[0, 0] - 0.1)) if self._steps > 2 else math.nan


def test_as_a_fast_policy_it_answers_within_its_budget() -> None:
    errors = {}
    for budget_s in (0.010, 0.030):
        clock = ManualClock()
        policy = AnytimeFastPolicy(
            lambda latent, clock=clock: RowDescent(clock),
            budget_s,
            clock.now_ns,
            chunk_rows=H,
            chunk_dt_ns=DT_NS,
            pace=PaceConfig(first_ms=2.0),
        )
        start_ns = clock.now_ns()
        rows = policy.decode(LATENT, make_observation(start_ns), start_ns)
        assert clock.now_ns() <= start_ns + round(budget_s * 1e9)
        assert rows.target0_ns == start_ns
        assert policy.last is not None
        errors[budget_s] = policy.last.energy
    assert errors[0.030] < 0.2 * errors[0.010]


def test_a_fast_policy_without_usable_rows_says_so() -> None:
    clock = ManualClock()
    policy = AnytimeFastPolicy(
        lambda latent: RowDescent(clock), 0.004, clock.now_ns, chunk_rows=H, chunk_dt_ns=DT_NS
    )
    with pytest.raises(PolicyTimeoutError, match="no usable rows after 0 steps"):
        policy.decode(LATENT, make_observation(), clock.now_ns())
    policy.reset()
    assert policy.last is None
    with pytest.raises(ConfigError, match="budget_s must be above 0"):
        AnytimeFastPolicy(
            lambda latent: RowDescent(clock), 0.0, clock.now_ns, chunk_rows=H, chunk_dt_ns=DT_NS
        )


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="margin must be 1"):
        PaceConfig(margin=0.9)
