# SPDX-License-Identifier: Apache-2.0
"""Steer a frozen flow policy while it denoises: down the gradient of a cost of the rows.

    x1 = x + (1 - t) v                          where the rows are heading
    v <- v + g(t) (to_model(rows(x1) - grad cost) - to_model(rows(x1)))

The step is taken in metres and mapped to model space, so costs need to know nothing of it. g is
the factor of prefix guidance (``denoising.guidance_weight``); the Jacobian of the denoiser is taken
as the identity. No weight changes.

Source: guidance of denoising by rewards given at test time (VLS); the form is that of the identity
guidance of ``chunking/strategies/denoising.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import GenerativePolicy, InferenceRequest, PrefixPolicy
from vla_ros.chunking.strategies.denoising import guidance_weight
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import PolicyError
from vla_ros.policies.around import Around
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


class SteeringCost(Protocol):
    """A cost of rows, known by where it wants them to go."""

    @property
    def name(self) -> str:
        """Return what the cost is called."""

    def descent(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return minus the gradient (H, 3) [m] in base, scaled so that it is a step to take."""


@dataclass(frozen=True, kw_only=True)
class SteeringConfig:
    """How strongly."""

    step_m: float = setting(
        0.05, "longest step of a row per denoising step", unit="m", ge=0.0, le=1.0
    )
    largest_weight: float = setting(5.0, "largest factor g", ge=0.0, le=100.0)

    def __post_init__(self) -> None:
        check_fields(self)


class SteeredFlow(Around):
    """A ``GenerativePolicy`` around another one; a ``PrefixPolicy`` if that is one.

    A cost that fails, or whose step is not finite, is left out of that step and counted: the base
    policy goes on.

    Attributes:
        ignored: how often a cost was left out.
    """

    def __init__(
        self,
        policy: GenerativePolicy,
        costs: Sequence[SteeringCost],
        config: SteeringConfig | None = None,
    ) -> None:
        super().__init__(policy)
        self._policy = policy
        self._costs = tuple(costs)
        self._config = config or SteeringConfig()
        self.n_denoising_steps = policy.n_denoising_steps
        self.ignored = 0

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""
        return self._policy.to_model(rows, request)

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows of the request's time grid."""
        return self._policy.from_model(x, request)

    def noise(self, request: InferenceRequest) -> Array:
        """Return the noise of the base policy: without a cost its rows come out."""
        return self._policy.noise(request)

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A), steered."""
        velocity = self._policy.velocity(x, t, request)
        return velocity + self._correction(x, t, velocity, request)

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return v^T d velocity / d x (H, A) of the base policy; costs count as constant."""
        return self._policy.velocity_vjp(x, t, v, request)

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, A), steered, given that the first ``n_prefix`` rows are clean.

        Raises:
            PolicyError: if the base policy was not trained for it.
        """
        if not isinstance(self._policy, PrefixPolicy):
            raise PolicyError("the policy was not trained to continue a prefix")
        velocity = self._policy.prefix_velocity(x, t, n_prefix, request)
        correction = self._correction(x, t, velocity, request)
        correction[:n_prefix] = 0.0
        return velocity + correction

    def _correction(self, x: Array, t: float, velocity: Array, request: InferenceRequest) -> Array:
        rows = self._policy.from_model(x + (1.0 - t) * velocity, request)
        steps = self._steps(rows, request)
        if not steps.any():
            return np.zeros_like(x)
        there = replace(rows, positions=rows.positions + steps)
        # The difference of two conversions, so that what they clip cancels.
        away = self._policy.to_model(there, request) - self._policy.to_model(rows, request)
        correction: Array = guidance_weight(t, self._config.largest_weight) * away
        return correction

    def _steps(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        total = np.zeros((rows.horizon, 3))
        for cost in self._costs:
            try:
                step = np.asarray(cost.descent(rows, request), dtype=np.float64)
            except PolicyError:
                self.ignored += 1
                continue
            if step.shape != total.shape or not np.isfinite(step).all():
                self.ignored += 1
                continue
            total += step
        length = np.linalg.norm(total, axis=1, keepdims=True)
        steps: Array = total * (self._config.step_m / np.maximum(length, self._config.step_m))
        return steps
