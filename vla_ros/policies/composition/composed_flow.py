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

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

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
T = TypeVar("T")


@runtime_checkable
class AsksAhead(Protocol):
    """A flow policy elsewhere, which computes while others do."""

    def begin_velocity(self, x: Array, t: float, request: InferenceRequest) -> None:
        """Ask for what the same ``velocity`` will return; raises ``PolicyError``."""


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

    def lose(self, error: PolicyError) -> None:
        self.lost = str(error) or type(error).__name__


class ComposedFlow:
    """A ``GenerativePolicy`` of two; ``PrefixPolicy`` if both are.

    A parent that fails or returns something that is not finite is not asked again until
    ``revive``: from that denoising step on the other one is the policy. Parents in other processes
    (``remote.flow_client``) compute at the same time.

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

    @property
    def alarm(self) -> str:
        """Return who is not asked any more and why; empty if both are."""
        gone = "; ".join(f"{name} is not asked any more: {why}" for name, why in self.lost.items())
        left = [p.name for p in self._parents if not p.lost]
        return f"{gone}; {left[0]} is the policy" if gone and left else gone

    def revive(self) -> None:
        """Ask both again."""
        for parent in self._parents:
            parent.lost = ""

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call of all parents still asked went; None if none says."""
        return total_of(timing_of(p.policy) for p in self._parents if not p.lost)

    def diagnostics(self) -> dict[str, float | str]:
        """Return the weight asked for, that in force and who is not asked any more."""
        values: dict[str, float | str] = {"composition_weight": self._weight}
        if not all(parent.lost for parent in self._parents):
            values["composition_weight_in_force"] = self.weight_in_force
        return values | {f"composition_lost_{name}": why for name, why in self.lost.items()}

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""
        return self._led(lambda policy: policy.to_model(rows, request))

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows of the request's time grid."""
        return self._led(lambda policy: policy.from_model(x, request))

    def noise(self, request: InferenceRequest) -> Array:
        """Return the noise of ``b`` if it is alone, else that of ``a``, (H, A)."""
        while True:
            x = self._led(lambda policy: _finite(policy.noise(request)))
            maker = self._leader
            if 0.0 < self.weight_in_force < 1.0 and not self._is_same_space:
                self._check_space(x, request)
            if self._leader is maker:
                return x

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A)."""
        for parent, _ in self._shares:
            if isinstance(parent.policy, AsksAhead):
                # What is wrong is said again by the question itself.
                with contextlib.suppress(PolicyError):
                    parent.policy.begin_velocity(x, t, request)
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
    def _leader(self) -> _Parent:
        return self._parents[1 if self.weight_in_force == 1.0 else 0]

    @property
    def _shares(self) -> list[tuple[_Parent, float]]:
        """Who has a say, and how much of one."""
        weight = self.weight_in_force
        shares = zip(self._parents, (1.0 - weight, weight), strict=True)
        return [(parent, share) for parent, share in shares if share > 0.0]

    def _led(self, ask: Callable[[GenerativePolicy], T]) -> T:
        """Return the answer of the leader, or of who leads when that one fails."""
        while True:
            leader = self._leader
            try:
                return ask(leader.policy)
            except PolicyError as error:
                leader.lose(error)

    def _mixed(self, ask: Callable[[GenerativePolicy], Array], shape: tuple[int, ...]) -> Array:
        answers: dict[int, Array] = {}
        while True:
            shares = self._shares
            try:
                for parent, _ in shares:
                    if id(parent) not in answers:
                        answers[id(parent)] = _finite(ask(parent.policy), shape)
            except PolicyError as error:
                parent.lose(error)
                continue  # the other one's share is now 1
            parts = [(share, answers[id(parent)]) for parent, share in shares]
            if len(parts) == 1:
                return parts[0][1]
            return parts[0][0] * parts[0][1] + parts[1][0] * parts[1][1]

    def _check_space(self, x: Array, request: InferenceRequest) -> None:
        rows = []
        for parent in self._parents:
            try:
                rows.append(parent.policy.from_model(x, request))
            except PolicyError as error:
                parent.lose(error)
                return
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
        self._is_same_space = True


def _finite(array: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return the array; raises ``PolicyError`` if it is not finite or not of that shape."""
    if (shape is not None and array.shape != shape) or not np.isfinite(array).all():
        wanted = "" if shape is None else f" or not of shape {shape}"
        raise PolicyError(f"an answer that is not finite{wanted}")
    return array
