# SPDX-License-Identifier: Apache-2.0
"""A flow policy behind a server, one denoising step at a time, to be composed with another one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.errors import PolicyError
from vla_ros.policies.remote.client import RemotePart, chunks_of
from vla_ros.policies.remote.flow_server import REQUEST, ROWS
from vla_ros.policies.remote.link import Link
from vla_ros.policies.remote.messages import (
    Message,
    Tensors,
    put_chunks,
    put_latent,
    put_request,
)
from vla_ros.policies.remote.server import FLOW
from vla_ros.policies.timing import CallTiming, total_of
from vla_ros.types import ActionChunk, Latent

Array = NDArray[np.float64]


class RemoteFlow(RemotePart):
    """A ``GenerativePolicy`` and ``PrefixPolicy`` behind a server.

    The request, with its images, and the latent go there with the first question of an inference;
    every denoising step sends rows and time. What the policy was not trained for it refuses.

    Args:
        link: the way to it, or its address.
        limit_s: an answer to one question that takes longer is given up.

    Raises:
        PolicyError: if nobody is there.
    """

    part = FLOW

    def __init__(self, link: Link | str, limit_s: float = 0.5) -> None:
        super().__init__(link, limit_s)
        self.n_denoising_steps = self.described.n_denoising_steps
        self._client = secrets.token_hex(8)  # no two of a server's clients have the same names
        self._inferences = 0
        self._request: InferenceRequest | None = None
        self._latent: Latent | None = None
        self._told_at: int | None = None  # losses when it was told; None: it was not
        self._begun: tuple[Array, float] | None = None
        self._timing: CallTiming | None = None

    def given(self, latent: Latent) -> RemoteFlow:
        """Return this policy, given a latent, for one inference after the other."""
        if latent is not self._latent:
            self._latent, self._request = latent, None
        return self

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last inference went; the way to and fro counts as waiting."""
        return self._timing

    def noise(self, request: InferenceRequest) -> Array:
        """Return the initial noise (H, A)."""
        return self._array("noise", {}, {}, request)

    def to_model(self, rows: ActionChunk, request: InferenceRequest) -> Array:
        """Return rows in model space (H, A)."""
        values, tensors = put_chunks((rows,))
        named = {f"{ROWS}{name}": array for name, array in tensors.items()}
        return self._array("to_model", {"rows": values}, named, request)

    def from_model(self, x: Array, request: InferenceRequest) -> ActionChunk:
        """Return model-space rows (H, A) as rows of the request's time grid."""
        self._begin("from_model", {}, {"x": x}, request)
        return chunks_of(self._answer())[0]

    def begin_velocity(self, x: Array, t: float, request: InferenceRequest) -> None:
        """Ask for a velocity that ``velocity`` returns: others can be asked meanwhile."""
        self._begin("velocity", {"t": t}, {"x": x}, request)
        self._begun = (x, t)

    def velocity(self, x: Array, t: float, request: InferenceRequest) -> Array:
        """Return dx/dt (H, A)."""
        begun = self._begun
        if begun is None or begun[0] is not x or begun[1] != t or request is not self._request:
            self.begin_velocity(x, t, request)
        self._begun = None
        return _array_of(self._answer())

    def velocity_vjp(self, x: Array, t: float, v: Array, request: InferenceRequest) -> Array:
        """Return v^T d velocity / d x (H, A)."""
        return self._array("velocity_vjp", {"t": t}, {"x": x, "v": v}, request)

    def prefix_velocity(
        self, x: Array, t: float, n_prefix: int, request: InferenceRequest
    ) -> Array:
        """Return dx/dt (H, A) given that the first ``n_prefix`` rows of ``x`` are clean."""
        values = {"t": t, "n_prefix": n_prefix}
        return self._array("prefix_velocity", values, {"x": x}, request)

    def _array(
        self, kind: str, values: Mapping[str, Any], tensors: Tensors, request: InferenceRequest
    ) -> Array:
        self._begin(kind, values, tensors, request)
        return _array_of(self._answer())

    def _begin(
        self, kind: str, values: Mapping[str, Any], tensors: Tensors, request: InferenceRequest
    ) -> None:
        self._begun = None
        self._asker.abandon()  # what nobody waited for
        if request is not self._request:
            self._inferences += 1
            self._request, self._told_at, self._timing = request, None, None
        values = {**values, "inference": f"{self._client}-{self._inferences}"}
        # Who comes back after a loss has been told nothing.
        if self._told_at != self._asker.losses or not self._asker.is_known:
            values["request"], about = put_request(request)
            if self._latent is not None:
                about |= put_latent(self._latent)
            tensors = {**tensors, **{f"{REQUEST}{name}": array for name, array in about.items()}}
        self._told_at = None
        self._asker.begin(kind, values, tensors)
        self._told_at = self._asker.losses

    def _answer(self) -> Message:
        answer = self._asker.wait()
        self._timing = total_of((self._timing, self._asker.last_timing))
        return answer


def _array_of(answer: Message) -> Array:
    try:
        return np.array(answer.tensors["array"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"the server answered no rows in model space: {error!r}") from error
