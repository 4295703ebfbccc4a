# SPDX-License-Identifier: Apache-2.0
"""Flow from noise to a Gaussian mixture over rows, in closed form.

    p(x1) = sum_k w_k N(mu_k, C),   C_ij = s_i s_j rho^|i-j| over rows, independent columns
    x_t   = (1 - t) x_0 + t x1,     x_0 ~ N(0, I)

With S_t = t^2 C + (1 - t)^2 I and r_k = x_t - t mu_k, all of it diagonal in the eigenbasis of C:

    D_k = E[x1 | x_t, k] = mu_k + t C S_t^-1 r_k
    p_k = P(k | x_t)     ~ w_k exp(-r_k^T S_t^-1 r_k / 2)
    v   = (D - x_t) / (1 - t),      D = sum_k p_k D_k
    u^T dD/dx = t C S_t^-1 u + sum_k p_k (g_k - g) (D_k . u),   g_k = -S_t^-1 r_k,  g = sum p_k g_k

The last line is the posterior covariance (second-order Tweedie). Given clean rows < d the rest is a
mixture again: means mu_k2 + C_21 C_11^-1 (y - mu_k1), covariance the Schur complement, weights
~ w_k N(y; mu_k1, C_11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ShapeError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Modes:
    """What the policy may do now: weights (K,), means (K, H, A) in model space."""

    weights: Array
    means: Array

    def __post_init__(self) -> None:
        if self.means.ndim != 3 or self.weights.shape != self.means.shape[:1]:
            raise ShapeError(
                f"K modes need weights (K,) and means (K, H, A), got {self.weights.shape} and "
                f"{self.means.shape}"
            )
        if not (self.weights > 0.0).all():
            raise ShapeError("weights of modes must be positive")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation of the rows about a mode, in units of model space.

    Given row 0, the deviation expected of row 1 is rho s_1 / s_0 times that of row 0. Above 1, with
    means that do not follow the state shown and a new chunk at every row, deviations grow.
    """

    first: float = setting(0.02, "of row 0", ge=1e-4, le=10.0)
    last: float = setting(0.2, "of the last row, linear in between", ge=1e-4, le=10.0)
    correlation: float = setting(0.9, "of neighbouring rows", ge=0.0, le=0.9999)

    def __post_init__(self) -> None:
        check_fields(self)

    def covariance(self, horizon: int) -> Array:
        """Return C (H, H)."""
        i = np.arange(horizon)
        deviation = np.linspace(self.first, self.last, horizon)
        cov: Array = np.outer(deviation, deviation) * self.correlation ** np.abs(i[:, None] - i)
        return cov


class MixtureFlow:
    """The flow of a mixture whose modes share one covariance over rows.

    ``x`` may have leading axes: (..., H, A).
    """

    def __init__(self, covariance: Array) -> None:
        self._eigenvalues, self._basis = np.linalg.eigh(covariance)
        self._column = np.maximum(self._eigenvalues, 0.0)[:, None]  # (H, 1)

    def velocity(self, x: Array, t: float, modes: Modes) -> Array:
        """Return dx/dt."""
        _, shares, _, denoised = self._posterior(x, t, modes)
        mean = (shares[..., None, None] * denoised).sum(axis=-3)
        speed: Array = (self._basis @ mean - x) / (1.0 - t)
        return speed

    def velocity_vjp(self, x: Array, t: float, u: Array, modes: Modes) -> Array:
        """Return u^T dv/dx; the Jacobian is symmetric."""
        gain, shares, scores, denoised = self._posterior(x, t, modes)
        uh = self._basis.T @ u
        weight = shares[..., None, None]
        inner = (denoised * uh[..., None, :, :]).sum(axis=(-2, -1))[..., None, None]
        centred = scores - (weight * scores).sum(axis=-3, keepdims=True)
        product = gain * uh + (weight * inner * centred).sum(axis=-3)
        vjp: Array = self._basis @ (product - uh) / (1.0 - t)
        return vjp

    def mode_shares(self, x: Array, t: float, modes: Modes) -> Array:
        """Return P(k | x_t), (..., K)."""
        return self._posterior(x, t, modes)[1]

    def _posterior(self, x: Array, t: float, modes: Modes) -> tuple[Array, Array, Array, Array]:
        """Return gain (H, 1), shares (..., K), scores and D_k (..., K, H, A), in the eigenbasis."""
        xh = self._basis.T @ x
        means = self._basis.T @ modes.means
        variance = t * t * self._column + (1.0 - t) ** 2
        residual = xh[..., None, :, :] - t * means
        scores = -residual / variance
        shares = _softmax(np.log(modes.weights) + 0.5 * (residual * scores).sum(axis=(-2, -1)))
        gain = t * self._column / variance
        return gain, shares, scores, means + gain * residual


class Continuation:
    """Rows from ``n`` on, given the first ``n``."""

    def __init__(self, covariance: Array, n: int) -> None:
        c11, c21 = covariance[:n, :n], covariance[n:, :n]
        self._n = n
        self._precision = np.linalg.inv(c11)
        self._gain = c21 @ self._precision
        rest = covariance[n:, n:] - self._gain @ c21.T
        self.flow = MixtureFlow(0.5 * (rest + rest.T))

    def modes(self, prefix: Array, modes: Modes) -> Modes:
        """Return the modes of the rest, given ``prefix`` (n, A)."""
        residual = prefix - modes.means[:, : self._n]  # (K, n, A)
        distance = (residual * (self._precision @ residual)).sum(axis=(-2, -1))
        shares = np.maximum(_softmax(np.log(modes.weights) - 0.5 * distance), 1e-300)
        return Modes(shares, modes.means[:, self._n :] + self._gain @ residual)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
