# SPDX-License-Identifier: Apache-2.0
"""What an execution strategy is asked, and what it may ask of a policy.

A strategy is pure: it is handed the time and the observation, decides when to infer and on what,
takes chunks when they are done, and says which rows to execute from now on. It runs no policy,
reads no clock and no ring. The control host interpolates between the rows, brakes when they end and
never executes one after its expiry, whatever a strategy does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, ShapeError
from vla_ros.types import ActionChunk, Observation, RobotState

Array = NDArray[np.float64]


class Guidance(enum.Enum):
    """How a generative policy is tied to rows that will be executed anyway."""

    NONE = "none"  # the policy samples freely
    IDENTITY = "identity"  # guided, Jacobian of the denoiser taken as the identity
    VJP = "vjp"  # guided by the true vector-Jacobian product of the denoiser
    TRAINED = "trained"  # the policy was trained to continue a given prefix


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Rows of the running plan on the time grid of a request.

    Attributes:
        rows: row ``i`` is for ``target0_ns + i * dt_ns`` of the request; H rows, the last one
            repeated where the running plan has ended.
        frozen_len: that many rows will be executed before the inference is done.
        weights: (H,) how firmly each row binds the new chunk, 1 to 0.
        max_guidance_weight: largest factor of the correction, for IDENTITY and VJP.
    """

    rows: ActionChunk
    frozen_len: int
    weights: Array
    max_guidance_weight: float = 5.0

    def __post_init__(self) -> None:
        n = self.rows.horizon
        if self.weights.shape != (n,) or not 0 <= self.frozen_len <= n:
            raise ShapeError(
                f"a prefix of {n} rows needs {n} weights and frozen_len 0 to {n}, got "
                f"{self.weights.shape} and {self.frozen_len}"
            )


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """One call of a policy.

    Attributes:
        observation: what the policy sees; its state may be a projected one.
        target0_ns, dt_ns: time grid of the rows asked for.
        delay_assumed_ns: how long the inference was expected to take [ns].
        prefix: rows to be consistent with; None when ``guidance`` is NONE.
        is_projected: the state in ``observation`` is where the arm will be, not where it is.
        seq: number that the strategy gave it; goes on after a reset, so that a result that comes
            late, twice or from before a reset is known for what it is.
    """

    observation: Observation
    target0_ns: int
    dt_ns: int
    seq: int = 0
    delay_assumed_ns: int = 0
    prefix: Prefix | None = None
    guidance: Guidance = Guidance.NONE
    is_projected: bool = False


@dataclass(frozen=True, kw_only=True)
class PolicyCapabilities:
    """What a policy can do beyond returning rows; declared by it, used to choose a strategy.

    Attributes:
        horizon, dt_ns: rows of a chunk and the time between them.
        execution_rows: rows of a chunk that it says are to be executed before new ones are there
            (LeRobot's ``n_action_steps``); 0: it does not say.
        is_guided: gives access to its denoising steps (``GenerativePolicy``).
        has_vjp: the vector-Jacobian product of its velocity is available too.
        trained_prefix_max: longest prefix it was trained to continue; 0: none.
        is_relative: rows are relative to the pose of the anchor state.
        has_split_latent: slow and fast half; the fast one sees fresh state.
        has_age_input: the fast half is told how old its latent is.
        n_candidates: chunks of one call that can be compared.
        has_scores: its candidates come best first, ranked by scores or energies.
        has_uncertainty: says of every call how uncertain it is.
        has_correction: brings a correction head.
        takes_projected_state: its rows are right for a state in which the arm is not yet, beside
            images of the present; it was trained so, or looks at the state alone.

    Raises:
        ConfigError: if a value is of another type or out of range; some come from other processes.
    """

    horizon: int
    dt_ns: int
    execution_rows: int = 0
    is_guided: bool = False
    has_vjp: bool = False
    trained_prefix_max: int = 0
    is_relative: bool = False
    has_split_latent: bool = False
    has_age_input: bool = False
    n_candidates: int = 1
    has_scores: bool = False
    has_uncertainty: bool = False
    has_correction: bool = False
    takes_projected_state: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value, wanted = getattr(self, f.name), bool if f.default is False else int
            if type(value) is not wanted:
                raise ConfigError(f"{f.name} must be {wanted.__name__}, got {value!r}")
        for name, low, high in (
            ("horizon", 1, 1000),
            ("dt_ns", 1, 10**10),
            ("execution_rows", 0, self.horizon),
            ("trained_prefix_max", 0, self.horizon),
            ("n_candidates", 1, 256),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be {low} to {high}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a strategy decides on, at one step of the fast loop.

    Attributes:
        observation: newest images, fresh state, instruction.
        delay_ns: how long the next inference will take, from now to its rows [ns]: a high quantile
            (p95) of the recent ones.
        in_flight: inferences that were asked for and are not done.
    """

    now_ns: int
    observation: Observation
    delay_ns: int
    in_flight: int

    @property
    def state(self) -> RobotState:
        """The measured state of the robot."""
        return self.observation.state


class Strategy(Protocol):
    """One way to execute chunks. Called once per ``dt_ns`` of the policy: offer, request, plan."""

    name: str

    @property
    def mixed_until_ns(self) -> int:
        """Until then the rows owe something to chunks before the newest one; 0: nothing.

        Such rows are as good as the oldest of their causes: they expire with it.
        """

    def reset(self) -> None:
        """Forget every row: a new episode, instruction or authority begins."""

    def drop_rows(self) -> None:
        """Forget the rows, not what was asked for: they have expired and the arm has stopped."""

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Return what to infer now, or None to infer nothing."""

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Take the result of an inference that is done at ``now_ns``.

        One chunk, or the candidates of a policy with several; absolute rows, already admitted.
        """

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Return the rows to execute from now on, or None: then the arm brakes and holds.

        Row times are absolute. Rows in the past are skipped by the control host, not executed.
        """


class CorrectionHead(Protocol):
    """A small network that corrects single rows by what is seen now (A2C2)."""

    def correct(
        self, observation: Observation, row: ActionChunk, index: float, age_ns: int
    ) -> ActionChunk:
        """Return the corrected row. ``index`` runs from 0 to 1 over the chunk."""


class GenerativePolicy(Protocol):
    """A flow policy whose denoising can be steered: x goes from noise (t = 0) to rows (t = 1).

    Rows in model space are (H, A), standardised: a unit means the same in every column.
    """

    n_denoising_steps: int

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows of the request's time grid."""

    def noise(self, request: InferenceRequest) -> Array:
        """Return the initial noise (H, A) of this call."""

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A) at flow time ``t`` in [0, 1)."""

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return ``v^T d velocity / d x`` (H, A)."""


@runtime_checkable
class PrefixPolicy(GenerativePolicy, Protocol):
    """A flow policy that was trained to continue clean rows (``trained_prefix_max``)."""

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, A) given that the first ``n_prefix`` rows of ``x`` are clean."""
