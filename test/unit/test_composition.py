# SPDX-License-Identifier: Apache-2.0
"""Mixed velocities: the parents at the ends, better in between, one left when one dies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from composition_samples import STEPS, H, Table, flow, parents, request_of, table_of
from strategy_samples import able, same

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix, PrefixPolicy
from vla_ros.chunking.strategies.denoising import guided_denoise, prefix_weights
from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
from vla_ros.policies.composition.composed_flow import (
    ComposedFlow,
    score_from_velocity,
    velocity_from_score,
)
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import MixtureFlow, Modes, Spread
from vla_ros.report.statistics import mcnemar_p

N = 200


class Failing:
    """A policy that fails from its n-th velocity on."""

    def __init__(self, policy: FlowMixturePolicy, after: int, error: Exception | None) -> None:
        self.inner, self.after, self.error, self.calls = policy, after, error, 0
        self.n_denoising_steps = policy.n_denoising_steps
        self.to_model, self.from_model = policy.to_model, policy.from_model
        self.noise, self.velocity_vjp = policy.noise, policy.velocity_vjp

    def velocity(self, x: np.ndarray, t: float, request: InferenceRequest) -> np.ndarray:
        self.calls += 1
        velocity = self.inner.velocity(x, t, request)
        if self.calls <= self.after:
            return velocity
        if self.error is not None:
            raise self.error
        return velocity * np.nan


@pytest.fixture(scope="module")
def successes() -> dict[float, list[bool]]:
    """By weight, on the same seeds."""
    found: dict[float, list[bool]] = {w: [] for w in (0.0, 0.25, 0.5, 0.75, 1.0)}
    for seed in range(N):
        table = table_of(seed)
        a, b = parents(table, seed)
        for weight, results in found.items():
            chunk = guided_denoise(ComposedFlow(a, b, weight), request_of())
            results.append(table.is_solved_by(chunk))
    return found


def test_composed_success_is_above_that_of_the_better_parent(
    successes: dict[float, list[bool]],
) -> None:
    rates = {weight: float(np.mean(results)) for weight, results in successes.items()}
    better = max((0.0, 1.0), key=lambda weight: rates[weight])
    assert 0.35 < rates[better] < 0.6
    assert rates[0.5] > rates[better] + 0.1
    assert mcnemar_p(successes[0.5], successes[better]) < 0.05
    assert min(rates[0.25], rates[0.75]) > min(rates[0.0], rates[1.0])


def test_two_parents_that_know_the_same_are_not_better_than_one() -> None:
    """The control: mixing alone gains nothing, it is what the other knows that helps."""
    alone, mixed = [], []
    for seed in range(N):
        table = table_of(seed)
        a, twin = (flow(table, 0.97, 0.5, s) for s in (seed, seed + 1_000_000))
        alone.append(table.is_solved_by(guided_denoise(a, request_of())))
        mixed.append(table.is_solved_by(guided_denoise(ComposedFlow(a, twin), request_of())))
    assert mcnemar_p(mixed, alone) > 0.05


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_of_the_weight_are_the_parents_bit_by_bit(seed: int) -> None:
    a, b = parents(table_of(seed), seed)
    for weight, parent in ((0.0, a), (1.0, b)):
        composed = ComposedFlow(a, b, weight)
        for seq in range(3):
            request = request_of(seq)
            ours = guided_denoise(composed, request)
            assert same(ours, guided_denoise(parent, request))
    assert not same(guided_denoise(a, request_of()), guided_denoise(b, request_of()))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_at_the_ends_the_other_parent_is_not_asked(weight: float) -> None:
    a, b = parents(table_of(0), 0)
    silent = Failing(b if weight == 0.0 else a, 0, PolicyError("not to be asked"))
    pair = (a, silent) if weight == 0.0 else (silent, b)
    composed = ComposedFlow(*pair, weight)
    guided_denoise(composed, request_of())
    assert silent.calls == 0
    assert composed.lost == {}


def test_velocity_is_the_mean_and_so_is_the_score() -> None:
    a, b = parents(Table(1.0, 1.0), 0)
    composed, request = ComposedFlow(a, b, 0.3), request_of()
    x = composed.noise(request)
    for t in (0.0, 0.4, 0.9):
        va, vb = a.velocity(x, t, request), b.velocity(x, t, request)
        v = composed.velocity(x, t, request)
        np.testing.assert_allclose(v, 0.7 * va + 0.3 * vb, atol=1e-12)
        mixed = 0.7 * score_from_velocity(x, t, va) + 0.3 * score_from_velocity(x, t, vb)
        np.testing.assert_allclose(score_from_velocity(x, t, v), mixed, atol=1e-9)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_score_is_the_gradient_of_the_log_density(t: float) -> None:
    rng = np.random.default_rng(1)
    cov = Spread(first=0.3, last=0.5, correlation=0.5).covariance(3)
    modes = Modes(np.array([0.3, 0.7]), rng.standard_normal((2, 3, 2)))
    x, step = rng.standard_normal((3, 2)), 1e-6
    precision = np.linalg.inv(t * t * cov + (1 - t) ** 2 * np.eye(3))

    def log_density(y: np.ndarray) -> float:
        residual = y - t * modes.means
        exponents = -0.5 * (residual * (precision @ residual)).sum(axis=(1, 2))
        return float(np.log((modes.weights * np.exp(exponents)).sum()))

    numeric = np.zeros_like(x)
    for i in range(3):
        for j in range(2):
            e = np.zeros_like(x)
            e[i, j] = step
            numeric[i, j] = (log_density(x + e) - log_density(x - e)) / (2 * step)
    velocity = MixtureFlow(cov).velocity(x, t, modes)
    score = score_from_velocity(x, t, velocity)
    np.testing.assert_allclose(score, numeric, atol=1e-5)
    np.testing.assert_allclose(velocity_from_score(x, t, score), velocity, atol=1e-9)


@pytest.mark.parametrize("error", [PolicyError("gone"), PolicyTimeoutError("late"), None])
@pytest.mark.parametrize("dead", [0, 1])
@pytest.mark.parametrize("after", [0, 3])
def test_when_a_parent_dies_the_other_is_the_policy_within_the_same_call(
    dead: int, after: int, error: Exception | None
) -> None:
    table = table_of(3)
    whole = parents(table, 3)
    pair = list(whole)
    pair[dead] = Failing(whole[dead], after, error)  # type: ignore[call-overload]
    composed = ComposedFlow(pair[0], pair[1], 0.5, names=("obstacle", "goal"))
    chunk = guided_denoise(composed, request_of())
    assert np.isfinite(chunk.positions).all()
    assert composed.weight_in_force == (1.0 if dead == 0 else 0.0)
    assert list(composed.lost) == [("obstacle", "goal")[dead]]
    survivor = whole[1 - dead]
    for seq in (2, 3):
        request = request_of(seq)
        assert same(guided_denoise(composed, request), guided_denoise(survivor, request))
    assert pair[dead].calls == after + 1  # type: ignore[attr-defined]


def test_a_lone_parent_that_dies_is_replaced_too() -> None:
    a, b = parents(table_of(3), 3)
    composed = ComposedFlow(Failing(a, 0, PolicyError("gone")), b, 0.0)
    guided_denoise(composed, request_of())
    assert composed.weight_in_force == 1.0
    assert same(guided_denoise(composed, request_of(2)), guided_denoise(b, request_of(2)))


@pytest.mark.parametrize("method", ["noise", "from_model"])
def test_a_leader_that_cannot_even_begin_or_end_is_left_too(method: str) -> None:
    a, b = parents(table_of(3), 3)
    broken = Failing(a, 99, None)

    def fail(*arguments: object) -> None:
        raise PolicyError("gone")

    setattr(broken, method, fail)
    composed = ComposedFlow(broken, b)
    first = guided_denoise(composed, request_of())
    assert np.isfinite(first.positions).all()
    assert composed.alarm == "a is not asked any more: gone; b is the policy"
    if method == "noise":
        assert same(first, guided_denoise(b, request_of()))
    assert same(guided_denoise(composed, request_of(2)), guided_denoise(b, request_of(2)))


def test_noise_that_is_not_finite_costs_its_maker_alone() -> None:
    a, b = parents(table_of(3), 3)
    broken = Failing(a, 99, None)
    broken.noise = lambda request: a.noise(request) * np.nan
    composed = ComposedFlow(broken, b)
    assert same(guided_denoise(composed, request_of()), guided_denoise(b, request_of()))
    assert list(composed.lost) == ["a"]


def test_with_nobody_left_there_is_an_error_until_they_are_revived() -> None:
    a, b = parents(table_of(3), 3)
    fail_a, fail_b = (Failing(p, 1, PolicyError("gone")) for p in (a, b))
    composed = ComposedFlow(fail_a, fail_b)
    with pytest.raises(PolicyError, match="no policy is left; a: gone; b: gone"):
        guided_denoise(composed, request_of())
    with pytest.raises(PolicyError, match="no policy is left"):
        guided_denoise(composed, request_of())
    fail_a.after = fail_b.after = 1000
    composed.revive()
    assert composed.lost == {}
    guided_denoise(composed, request_of())


def test_a_prefix_guides_the_composed_policy() -> None:
    table = table_of(5)
    a, b = parents(table, 5)
    composed = ComposedFlow(a, b)
    assert isinstance(composed, PrefixPolicy)
    first = guided_denoise(composed, request_of(1))
    prefix = Prefix(rows=first, frozen_len=3, weights=prefix_weights("exp", 3, 6, H))
    for guidance, atol in ((Guidance.TRAINED, 1e-12), (Guidance.VJP, 0.01)):
        request = replace(request_of(2), prefix=prefix, guidance=guidance)
        rows = guided_denoise(composed, request)
        np.testing.assert_allclose(rows.positions[:3], first.positions[:3], atol=atol)


def test_an_untrained_parent_cannot_continue_a_prefix() -> None:
    a, b = parents(table_of(5), 5)
    composed = ComposedFlow(a, Failing(b, 99, None), 1.0)
    x = composed.noise(request_of())
    rows = composed.prefix_velocity(x, 0.0, 2, request_of())  # the other parent was trained
    assert np.isfinite(rows).all()
    assert "not trained" in composed.lost["b"]


def test_parents_that_cannot_be_mixed_are_refused() -> None:
    a, b = parents(table_of(0), 0)
    b.n_denoising_steps = STEPS + 1
    with pytest.raises(ConfigError, match="same number of denoising steps, got 6 and 7"):
        ComposedFlow(a, b)
    with pytest.raises(ConfigError, match=r"weight must be 0 to 1, got 1.2"):
        ComposedFlow(a, a, 1.2)
    other = FlowMixturePolicy(
        lambda request: Modes(np.ones(1), np.zeros((1, H, 7))),
        able(),
        space=ModelSpace(position_m=0.5),
        n_denoising_steps=STEPS,
    )
    with pytest.raises(ConfigError, match="mean different things"):
        guided_denoise(ComposedFlow(a, other), request_of())
    assert same(
        guided_denoise(ComposedFlow(a, other, 0.0), request_of()), guided_denoise(a, request_of())
    )
