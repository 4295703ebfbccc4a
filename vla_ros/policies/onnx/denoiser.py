# SPDX-License-Identifier: Apache-2.0
"""Access to the denoising steps of an exported flow policy, through its graph ``velocity``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.errors import PolicyError
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import Role
from vla_ros.policies.onnx.feeds import Call, Feeds
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


class OnnxDenoiser:
    """A ``GenerativePolicy`` and ``PrefixPolicy`` for one call at a time.

    Raises:
        ConfigError: if the graph is refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(self, folder: PolicyFolder, runtime: PolicyRuntime, seed: int = 0) -> None:
        manifest = folder.manifest
        space = manifest.model_space
        assert space is not None  # the manifest was checked
        graph = manifest.graphs["velocity"]
        self.n_denoising_steps = manifest.abilities.denoising_steps
        self._prefix_max = manifest.abilities.prefix_rows_max
        self._actions = manifest.actions
        self._mean, self._scale = np.array(space.mean), np.array(space.scale)
        self._seed = seed
        self._feeds = Feeds(folder, graph)
        self._session = GraphSession(folder, "velocity", runtime)
        self._names = {tensor.role: tensor.name for tensor in graph.outputs}
        self._call: Call | None = None
        self.last_timing: CallTiming | None = None

    def reset(self) -> None:
        """Begin an episode."""
        self._feeds.reset()
        self._call = None

    def for_call(self, call: Call, spent: CallTiming | None = None) -> OnnxDenoiser:
        """Return this policy, bound to what is known at a call, and what that has taken so far."""
        self._call = call
        self.last_timing = spent
        return self

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""
        columns = self._actions.to_columns(rows, request.observation.state)
        model: Array = (columns - self._mean) / self._scale
        return model

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows in base, on the request's time grid."""
        return self._actions.to_rows(
            x * self._scale + self._mean,
            request.observation.state,
            target0_ns=request.target0_ns,
        )

    def noise(self, request: InferenceRequest) -> Array:
        """Return the initial noise (H, A); the same request gives the same noise."""
        random = np.random.default_rng([self._seed, request.seq])
        return random.standard_normal((self._actions.rows, self._actions.columns))

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A)."""
        return self._run(Role.VELOCITY, {Role.FLOW_ROWS: x}, {Role.FLOW_TIME: t})

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return v^T d velocity / d x (H, A).

        Raises:
            PolicyError: if the policy does not give it.
        """
        if Role.VJP not in self._names:
            raise PolicyError("the policy gives no vector-Jacobian product")
        columns = {Role.FLOW_ROWS: x, Role.COTANGENT: v}
        return self._run(Role.VJP, columns, {Role.FLOW_TIME: t})

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, A) given that the first rows of ``x`` are clean.

        Raises:
            PolicyError: if it was not trained for so many.
        """
        if n_prefix > self._prefix_max:
            raise PolicyError(
                f"trained with prefixes of up to {self._prefix_max} rows, got {n_prefix}"
            )
        numbers = {Role.FLOW_TIME: t, Role.PREFIX_ROWS: float(n_prefix)}
        return self._run(Role.VELOCITY, {Role.FLOW_ROWS: x}, numbers)

    def _run(self, role: Role, columns: dict[Role, Array], numbers: dict[Role, float]) -> Array:
        if self._call is None:
            raise PolicyError("a denoiser must be bound to a call first")
        call = replace(self._call, columns=dict(columns), numbers=numbers)
        outputs, timing = self._session.run(self._feeds.make(call))
        known = self.last_timing or CallTiming()
        self.last_timing = CallTiming(
            pre_ns=known.pre_ns + timing.pre_ns,
            queue_ns=known.queue_ns + timing.queue_ns,
            compute_ns=known.compute_ns + timing.compute_ns,
            post_ns=known.post_ns + timing.post_ns,
        )
        values: Array = outputs[self._names[role]][0].astype(np.float64)
        return values
