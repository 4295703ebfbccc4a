# SPDX-License-Identifier: Apache-2.0
"""Single denoising steps of a flow policy, for who composes it with others elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vla_ros.chunking.strategies.base import GenerativePolicy, InferenceRequest, PrefixPolicy
from vla_ros.errors import PolicyError
from vla_ros.policies.around import Around
from vla_ros.policies.remote.messages import (
    STAMP,
    Tensors,
    get_chunks,
    get_latent,
    get_request,
    part,
    put_chunks,
)
from vla_ros.policies.timing import CallTiming
from vla_ros.types import Latent

REQUEST = "request/"  # tensors of what an inference is about
ROWS = "rows/"
_KEPT = 8  # inferences: several composers, each of which has one at a time


@runtime_checkable
class GivenLatents(Protocol):
    """A flow policy whose velocity depends on a latent of a slow half."""

    def given(self, latent: Latent) -> GenerativePolicy:
        """Return the policy given a latent."""


class ServedFlow(Around):
    """Answers questions about denoising steps.

    What an inference is about (observation, prefix, latent) comes with its first question and is
    kept under its name; later ones carry rows and time alone. The newest few are kept.

    Thread-safety: one thread.
    """

    def __init__(self, policy: GenerativePolicy) -> None:
        super().__init__(policy)
        self._policy = policy
        self.name = str(getattr(policy, "name", type(policy).__name__))
        self.n_denoising_steps = policy.n_denoising_steps
        self._known: OrderedDict[str, tuple[GenerativePolicy, InferenceRequest]] = OrderedDict()

    @property
    def last_timing(self) -> CallTiming | None:
        """None: a flow policy counts its time over a whole call, a question is a part of one."""
        return None

    def reset(self) -> None:
        """Forget every inference; a policy that can be reset is."""
        self._known.clear()
        reset = getattr(self._policy, "reset", None)
        if reset is not None:
            reset()

    def answer(
        self, kind: str, values: Mapping[str, Any], tensors: Tensors
    ) -> tuple[dict[str, Any], Tensors]:
        """Return values and tensors of an answer.

        Raises:
            PolicyError: if the policy fails, or the question cannot be answered.
        """
        policy, request = self._inference(values, tensors)
        if kind == "noise":
            return {}, {"array": policy.noise(request)}
        if kind == "to_model":
            rows = get_chunks(values["rows"], part(tensors, ROWS))[0]
            return {}, {"array": policy.to_model(rows, request)}
        x = np.array(tensors["x"], dtype=np.float64)
        if kind == "from_model":
            chunks, arrays = put_chunks((policy.from_model(x, request),))
            return {"chunks": chunks}, arrays
        t = float(values["t"])
        if kind == "velocity":
            return {}, {"array": policy.velocity(x, t, request)}
        if kind == "velocity_vjp":
            v = np.array(tensors["v"], dtype=np.float64)
            return {}, {"array": policy.velocity_vjp(x, t, v, request)}
        if kind == "prefix_velocity":
            if not isinstance(policy, PrefixPolicy):
                raise PolicyError("the policy was not trained to continue a prefix")
            n_prefix = int(values["n_prefix"])
            return {}, {"array": policy.prefix_velocity(x, t, n_prefix, request)}
        raise PolicyError(f"a flow part cannot be asked to {kind}")

    def _inference(
        self, values: Mapping[str, Any], tensors: Tensors
    ) -> tuple[GenerativePolicy, InferenceRequest]:
        name = str(values["inference"])
        if "request" in values:
            about = part(tensors, REQUEST)
            policy = self._policy
            if STAMP in about:
                if not isinstance(policy, GivenLatents):
                    raise PolicyError(f"{self.name} takes no latent")
                policy = policy.given(get_latent(about))
            self._known[name] = (policy, get_request(values["request"], about))
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        if name not in self._known:
            raise PolicyError("nothing is known here of this inference: it must be begun anew")
        self._known.move_to_end(name)
        return self._known[name]
