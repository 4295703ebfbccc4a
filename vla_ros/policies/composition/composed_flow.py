# SPDX-License-Identifier: Apache-2.0
"""Two flow policies as one: at every denoising step their velocities are mixed.

    v = (1 - w) v_a + w v_b,      score = (t v - x) / (1 - t)

On the same path from noise to rows the velocity is affine in the score, so this is the convex
combination of scores: rows that both find likely become likelier than either finds them. w = 0 and
w = 1 are the parents, bit by bit: their noise, their steps, and the other one is not asked.

Source: convex combination of the scores of several policies, GPC ("Compose Your Policies"); ours
lacks its search for weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import (
    GenerativePolicy,
    InferenceRequest,
    PolicyCapabilities,
    PrefixPolicy,
)
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.around import shared, timing_of
from vla_ros.policies.base import Capable
from vla_ros.policies.timing import CallTiming, total_of
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


def velocity_from_score(x: Array, t: float, score: Array) -> Array:
    """Return dx/dt of the path x = (1 - t) noise + t rows, at 0 < t < 1, of d log p / dx."""
    velocity: Array = (x + (1.0 - t) * score) / t
    return velocity


def score_from_velocity(x: Array, t: float, velocity: Array) -> Array:
    """Return d log p / dx at 0 <= t < 1: what a diffusion policy gives, up to its scaling."""
    score: Array = (t * velocity - x) / (1.0 - t)
    return score


@dataclass
class _Parent:
    """One of the two; ``lost`` says why it is not asked any more."""

    name: str
    policy: GenerativePolicy
    lost: str = ""


class ComposedFlow:
    """A ``GenerativePolicy`` of two; ``PrefixPolicy`` if both are.

    A parent that fails or returns something that is not finite is not asked again until
    ``revive``: from that denoising step on the other one is the policy.

    Args:
        a, b: the parents; their rows in model space must mean the same.
        weight: share of ``b``, 0 to 1.
        names: what they are called in messages.

    Attributes:
        capabilities: what both parents can do; absent if one of them does not say.
    """

    capabilities: PolicyCapabilities

    def __init__(
        self,
        a: GenerativePolicy,
        b: GenerativePolicy,
        weight: float = 0.5,
        names: Sequence[str] = ("a", "b"),
    ) -> None:
        if a.n_denoising_steps != b.n_denoising_steps:
            raise ConfigError(
                "both policies must take the same number of denoising steps, got "
                f"{a.n_denoising_steps} and {b.n_denoising_steps}"
            )
        self._parents = (_Parent(names[0], a), _Parent(names[1], b))
        self.n_denoising_steps = a.n_denoising_steps
        self.weight = weight
        if isinstance(a, Capable) and isinstance(b, Capable):
            self.capabilities = shared(a.capabilities, b.capabilities)
        self._is_same_space = False

    @property
    def weight(self) -> float:
        """Share of ``b`` that was asked for, 0 to 1."""
        return self._weight

    @weight.setter
    def weight(self, weight: float) -> None:
        if not 0.0 <= weight <= 1.0:
            raise ConfigError(f"weight must be 0 to 1, got {weight}")
        self._weight = float(weight)

    @property
    def weight_in_force(self) -> float:
        """Share of ``b`` with who is left; raises ``PolicyError`` if nobody is."""
        a, b = self._parents
        if a.lost and b.lost:
            raise PolicyError(f"no policy is left; {a.name}: {a.lost}; {b.name}: {b.lost}")
        if a.lost or b.lost:
            return 1.0 if a.lost else 0.0
        return self._weight

    @property
    def lost(self) -> dict[str, str]:
        """Why parents are not asked any more, by name."""
        return {p.name: p.lost for p in self._parents if p.lost}

    def revive(self) -> None:
        """Ask both again."""
        for parent in self._parents:
            parent.lost = ""

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call of all parents still asked went; None if none says."""
        return total_of(timing_of(p.policy) for p in self._parents if not p.lost)

    def diagnostics(self) -> dict[str, float | str]:
        """Return the weight asked for and who is not asked any more."""
        return {"composition_weight": self._weight} | {
            f"composition_lost_{name}": reason for name, reason in self.lost.items()
        }

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""
        return self._leader.to_model(rows, request)

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows of the request's time grid."""
        return self._leader.from_model(x, request)

    def noise(self, request: InferenceRequest) -> Array:
        """Return the noise of ``b`` if it is alone, else that of ``a``, (H, A)."""
        x = self._leader.noise(request)
        if 0.0 < self.weight_in_force < 1.0 and not self._is_same_space:
            self._check_space(x, request)
            self._is_same_space = True
        return x

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A)."""
        return self._mixed(lambda policy: policy.velocity(x, t, request), x.shape)

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return v^T d velocity / d x (H, A), which is mixed as the velocity is."""
        return self._mixed(lambda policy: policy.velocity_vjp(x, t, v, request), x.shape)

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, A) given that the first ``n_prefix`` rows of ``x`` are clean.

        Raises:
            PolicyError: if a policy that is asked was not trained for it.
        """

        def velocity_of(policy: GenerativePolicy) -> Array:
            if not isinstance(policy, PrefixPolicy):
                raise PolicyError("the policy was not trained to continue a prefix")
            return policy.prefix_velocity(x, t, n_prefix, request)

        return self._mixed(velocity_of, x.shape)

    @property
    def _leader(self) -> GenerativePolicy:
        return self._parents[1 if self.weight_in_force == 1.0 else 0].policy

    def _mixed(self, ask: Callable[[GenerativePolicy], Array], shape: tuple[int, ...]) -> Array:
        while True:
            weight = self.weight_in_force
            shares = [(p, s) for p, s in zip(self._parents, (1.0 - weight, weight), strict=True)]
            answers = [(s, self._asked(p, ask, shape)) for p, s in shares if s > 0.0]
            parts = [(s, answer) for s, answer in answers if answer is not None]
            if len(parts) < len(answers):
                continue  # one is lost: begin anew with the other, whose share is now 1
            if len(parts) == 1:
                return parts[0][1]
            return parts[0][0] * parts[0][1] + parts[1][0] * parts[1][1]

    def _asked(
        self, parent: _Parent, ask: Callable[[GenerativePolicy], Array], shape: tuple[int, ...]
    ) -> Array | None:
        try:
            answer = ask(parent.policy)
        except PolicyError as error:
            parent.lost = str(error) or type(error).__name__
            return None
        if answer.shape != shape or not np.isfinite(answer).all():
            parent.lost = f"a velocity that is not finite or not of shape {shape}"
            return None
        return answer

    def _check_space(self, x: Array, request: InferenceRequest) -> None:
        rows = [parent.policy.from_model(x, request) for parent in self._parents]
        pairs = (
            (rows[0].positions, rows[1].positions),
            (rows[0].quats_xyzw, rows[1].quats_xyzw),
            (rows[0].gripper_width_m, rows[1].gripper_width_m),
        )
        if not all(a.shape == b.shape and np.allclose(a, b, atol=1e-6) for a, b in pairs):
            raise ConfigError(
                f"rows of {self._parents[0].name} and {self._parents[1].name} mean different "
                "things in model space, so their velocities cannot be mixed"
            )
