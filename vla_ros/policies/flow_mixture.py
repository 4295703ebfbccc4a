# SPDX-License-Identifier: Apache-2.0
"""A flow policy without a network: rows from a Gaussian mixture (``gaussian_flow``).

It stands in for a trained flow policy where strategies are compared: several ways to do a thing
(modes), spread that grows with the row, exact velocity, exact Jacobian, and exact conditionals,
which are what training with prefixes aims at (arXiv 2512.05964).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.chunking import reanchor
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import PolicyError, ShapeError
from vla_ros.policies.gaussian_flow import Continuation, MixtureFlow, Modes, Spread
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]

N_COLUMNS = 7  # position, rotation vector, gripper


@dataclass(frozen=True, kw_only=True)
class ModelSpace:
    """Rows in model space (H, 7): relative to an anchor pose, in units of these scales."""

    position_m: float = setting(0.05, "a unit of position", unit="m", ge=1e-4, le=10.0)
    rotation_rad: float = setting(0.2, "a unit of rotation", unit="rad", ge=1e-3, le=10.0)
    gripper_m: float = setting(0.02, "a unit of gripper width", unit="m", ge=1e-4, le=1.0)
    gripper_mean_m: float = setting(0.04, "gripper width that is 0", unit="m", ge=0.0, le=1.0)

    def __post_init__(self) -> None:
        check_fields(self)

    def to_model(self, rows: ActionChunk, T_base_anchor: Array) -> Array:
        """Return rows in base as (H, 7) of model space."""
        relative = reanchor.to_relative(rows, T_base_anchor)
        return np.hstack(
            [
                relative.positions / self.position_m,
                rotations.log(relative.quats_xyzw) / self.rotation_rad,
                (rows.gripper_width_m[:, None] - self.gripper_mean_m) / self.gripper_m,
            ]
        )

    def from_model(
        self, x: Array, T_base_anchor: Array, *, target0_ns: int, dt_ns: int
    ) -> ActionChunk:
        """Return (H, 7) of model space as rows in base."""
        relative = ActionChunk(
            target0_ns=target0_ns,
            dt_ns=dt_ns,
            positions=x[:, :3] * self.position_m,
            quats_xyzw=rotations.exp(x[:, 3:6] * self.rotation_rad),
            gripper_width_m=np.maximum(x[:, 6] * self.gripper_m + self.gripper_mean_m, 0.0),
        )
        return reanchor.to_absolute(relative, T_base_anchor)


class FlowMixturePolicy:
    """A ``GenerativePolicy`` and ``PrefixPolicy``; deterministic by seed and request number.

    Args:
        modes: what may be done, given a request; means relative to the pose of its state.
        capabilities: horizon and dt, and what of it a strategy is allowed to use.
        spread: covariance of the rows.
        space: scales of model space.
        n_denoising_steps: Euler steps.
        seed: of the noise.
    """

    def __init__(
        self,
        modes: Callable[[InferenceRequest], Modes],
        capabilities: PolicyCapabilities,
        *,
        spread: Spread | None = None,
        space: ModelSpace | None = None,
        n_denoising_steps: int = 10,
        seed: int = 0,
    ) -> None:
        self.capabilities = capabilities
        self.n_denoising_steps = n_denoising_steps
        self.space = space or ModelSpace()
        self._modes_of = modes
        self._covariance = (spread or Spread()).covariance(capabilities.horizon)
        self._flow = MixtureFlow(self._covariance)
        self._continuations: dict[int, Continuation] = {}
        self._seed = seed
        self._known: tuple[InferenceRequest, Modes] | None = None

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return ``n_candidates`` chunks for a request."""
        noises = (self.noise(request, k) for k in range(self.capabilities.n_candidates))
        return tuple(guided_denoise(self, request, noise) for noise in noises)

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows relative to the pose of the request's state, (H, 7)."""
        return self.space.to_model(rows, request.observation.state.T_base_ee)

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows in base, on the request's time grid."""
        return self.space.from_model(
            x,
            request.observation.state.T_base_ee,
            target0_ns=request.target0_ns,
            dt_ns=request.dt_ns,
        )

    def noise(self, request: InferenceRequest, candidate: int = 0) -> Array:
        """Return the initial noise (H, 7)."""
        rng = np.random.default_rng([self._seed, request.seq, candidate])
        return rng.standard_normal((self.capabilities.horizon, N_COLUMNS))

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, 7)."""
        return self._flow.velocity(x, t, self._modes(request))

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return v^T d velocity / d x (H, 7)."""
        return self._flow.velocity_vjp(x, t, v, self._modes(request))

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, 7) of the rows after the first ``n_prefix``, which are clean."""
        modes = self._modes(request)
        if n_prefix > self.capabilities.trained_prefix_max:
            raise PolicyError(
                f"trained with prefixes of up to {self.capabilities.trained_prefix_max} rows, "
                f"got {n_prefix}"
            )
        if n_prefix == 0:
            return self._flow.velocity(x, t, modes)
        if n_prefix not in self._continuations:
            self._continuations[n_prefix] = Continuation(self._covariance, n_prefix)
        rest = self._continuations[n_prefix]
        velocity = np.zeros_like(x)
        velocity[n_prefix:] = rest.flow.velocity(x[n_prefix:], t, rest.modes(x[:n_prefix], modes))
        return velocity

    def _modes(self, request: InferenceRequest) -> Modes:
        if self._known is None or self._known[0] is not request:
            modes = self._modes_of(request)
            wanted = (self.capabilities.horizon, N_COLUMNS)
            if modes.means.shape[1:] != wanted:
                raise ShapeError(f"means must be (K, {wanted[0]}, {wanted[1]})")
            self._known = (request, replace(modes, weights=modes.weights / modes.weights.sum()))
        return self._known[1]
