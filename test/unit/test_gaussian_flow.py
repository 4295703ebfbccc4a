# SPDX-License-Identifier: Apache-2.0
"""The closed forms against sampling, finite differences and Gaussian conditioning."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.policies.gaussian_flow import Continuation, MixtureFlow, Modes, Spread

H, A = 5, 2
SPREAD = Spread(first=0.1, last=0.4, correlation=0.7)


def two_modes() -> Modes:
    ramp = np.linspace(0.0, 1.0, H)[:, None] * np.array([1.0, -0.5])
    return Modes(np.array([0.3, 0.7]), np.stack([ramp, -ramp]))


def euler(flow: MixtureFlow, modes: Modes, n: int, steps: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, modes.means.shape[1], A))
    for k in range(steps):
        x = x + flow.velocity(x, k / steps, modes) / steps
    return x


def test_covariance_is_that_of_an_autoregressive_process() -> None:
    cov = SPREAD.covariance(H)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), np.linspace(0.1, 0.4, H))
    assert cov[1, 3] / np.sqrt(cov[1, 1] * cov[3, 3]) == pytest.approx(0.7**2)


def test_one_mode_samples_have_its_mean_and_covariance() -> None:
    modes = Modes(np.ones(1), two_modes().means[:1])
    cov = SPREAD.covariance(H)
    x = euler(MixtureFlow(cov), modes, 8_000, 100)
    np.testing.assert_allclose(x.mean(axis=0), modes.means[0], atol=0.01)
    for column in range(A):
        np.testing.assert_allclose(np.cov(x[:, :, column].T), cov, atol=0.015)
    cross = (x[:, :, 0] - modes.means[0, :, 0]).T @ (x[:, :, 1] - modes.means[0, :, 1]) / len(x)
    np.testing.assert_allclose(cross, 0.0, atol=0.015)


def test_two_mode_samples_have_weights_and_moments_of_the_mixture() -> None:
    modes, cov = two_modes(), SPREAD.covariance(H)
    x = euler(MixtureFlow(cov), modes, 8_000, 100)
    mean = np.einsum("k,kha->ha", modes.weights, modes.means)
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.04)
    apart = modes.means - mean
    second = cov + np.einsum("k,kh,kg->hg", modes.weights, apart[:, :, 0], apart[:, :, 0])
    np.testing.assert_allclose(np.cov(x[:, :, 0].T), second, atol=0.03)
    precision = np.linalg.inv(cov)
    residual = x[:, None] - modes.means
    distance = (residual * (precision @ residual)).sum(axis=(-2, -1))
    share = (distance.argmin(axis=1) == 0).mean()
    exact = np.random.default_rng(1)
    chosen = exact.choice(2, size=50_000, p=modes.weights)
    drawn = modes.means[chosen] + np.linalg.cholesky(cov) @ exact.standard_normal((50_000, H, A))
    residual = drawn[:, None] - modes.means
    distance = (residual * (precision @ residual)).sum(axis=(-2, -1))
    assert share == pytest.approx((distance.argmin(axis=1) == 0).mean(), abs=0.025)


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9])
def test_vjp_equals_finite_differences(t: float) -> None:
    flow, modes = MixtureFlow(SPREAD.covariance(H)), two_modes()
    rng = np.random.default_rng(2)
    x, u, h = rng.standard_normal((H, A)), rng.standard_normal((H, A)), 1e-6
    numeric = np.zeros((H, A))
    for i in range(H):
        for j in range(A):
            e = np.zeros((H, A))
            e[i, j] = h
            dv = (flow.velocity(x + e, t, modes) - flow.velocity(x - e, t, modes)) / (2 * h)
            numeric[i, j] = (u * dv).sum()
    np.testing.assert_allclose(flow.velocity_vjp(x, t, u, modes), numeric, atol=1e-6)


def test_leading_axes_are_independent_samples() -> None:
    flow, modes = MixtureFlow(SPREAD.covariance(H)), two_modes()
    x = np.random.default_rng(3).standard_normal((4, H, A))
    together = flow.velocity(x, 0.4, modes)
    vjps = flow.velocity_vjp(x, 0.4, x, modes)
    for k in range(4):
        np.testing.assert_allclose(together[k], flow.velocity(x[k], 0.4, modes), atol=1e-12)
        np.testing.assert_allclose(vjps[k], flow.velocity_vjp(x[k], 0.4, x[k], modes), atol=1e-12)


def test_continuation_is_the_conditional_of_the_mixture() -> None:
    modes, cov, n = two_modes(), SPREAD.covariance(H), 2
    y = 0.6 * modes.means[0, :n] + 0.4 * modes.means[1, :n] + 0.05
    rest = Continuation(cov, n)
    conditional = rest.modes(y, modes)
    # By definition, on the joint density of all rows of one column pair, without Schur.
    inverse = np.linalg.inv(cov)
    for k in range(2):
        deviation = y - modes.means[k, :n]
        mean = modes.means[k, n:] - np.linalg.solve(inverse[n:, n:], inverse[n:, :n] @ deviation)
        np.testing.assert_allclose(conditional.means[k], mean, atol=1e-10)
    x = euler(rest.flow, conditional, 5000, 100)
    mixed = np.einsum("k,kha->ha", conditional.weights, conditional.means)
    np.testing.assert_allclose(x.mean(axis=0), mixed, atol=0.03)
    density = np.empty(2)
    for k in range(2):
        deviation = y - modes.means[k, :n]
        exponent = -0.5 * np.trace(deviation.T @ np.linalg.solve(cov[:n, :n], deviation))
        density[k] = modes.weights[k] * np.exp(exponent)
    np.testing.assert_allclose(conditional.weights, density / density.sum(), atol=1e-12)


def test_a_far_prefix_chooses_a_mode_without_overflow() -> None:
    conditional = Continuation(SPREAD.covariance(H), 3).modes(np.full((3, A), 50.0), two_modes())
    assert np.isfinite(conditional.means).all()
    assert conditional.weights.sum() == pytest.approx(1.0)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        Modes(np.ones(2), np.zeros((3, H, A)))
    with pytest.raises(ShapeError):
        Modes(np.array([1.0, 0.0]), np.zeros((2, H, A)))
    with pytest.raises(ConfigError, match="correlation"):
        Spread(correlation=1.0)
