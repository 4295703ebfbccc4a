# SPDX-License-Identifier: Apache-2.0
"""base -> steering -> residual -> limiter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vla_ros.policies.hooks.limiter import CommandLimiter
from vla_ros.policies.hooks.residual import BoundedResidual
from vla_ros.policies.hooks.terms import N_TERMS, HookedRows, offsets_between
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]
Log = Callable[[HookedRows], None]


class HookChain:
    """Adds what the hooks say to base rows, and remembers every term.

    Args:
        residual: applied to all rows alike, so that they keep their shape; None: none.
        limiter: has the last word.
        log: takes every result.
    """

    def __init__(
        self,
        residual: BoundedResidual | None = None,
        limiter: CommandLimiter | None = None,
        log: Log = lambda rows: None,
    ) -> None:
        self._residual = residual
        self._limiter = limiter or CommandLimiter()
        self._log = log

    @property
    def residual_applied(self) -> Array:
        """The residual (6,) of the last step; zeros without one."""
        return np.zeros(6) if self._residual is None else self._residual.applied

    def reset(self) -> None:
        """Forget the residual: a new episode, instruction or authority begins."""
        if self._residual is not None:
            self._residual.reset()

    def apply(
        self, base: ActionChunk, now_ns: int, steered: ActionChunk | None = None
    ) -> HookedRows:
        """Return the rows to execute from now on, with their terms. Call once per step.

        Args:
            base: what the policy says by itself.
            now_ns: time of the step.
            steered: what it says steered, from the same noise; None: not steered.
        """
        return self.apply_all([(base, steered)], now_ns)[0]

    def apply_all(
        self, candidates: Sequence[tuple[ActionChunk, ActionChunk | None]], now_ns: int
    ) -> tuple[HookedRows, ...]:
        """Return the rows of each candidate, base and steered, under one residual: one step."""
        residual = None if self._residual is None else self._residual.step(now_ns)
        return tuple(self._hooked(base, steered, residual) for base, steered in candidates)

    def _hooked(
        self, base: ActionChunk, steered: ActionChunk | None, added: Array | None
    ) -> HookedRows:
        n = base.horizon
        steering = np.zeros((n, N_TERMS)) if steered is None else offsets_between(base, steered)
        if not np.isfinite(steering).all():
            steering = np.zeros((n, N_TERMS))
        residual = np.zeros((n, N_TERMS))
        if added is not None:
            residual[:, :6] = added
        limit = self._limiter.term(base, steering + residual)
        rows = HookedRows(base=base, steering=steering, residual=residual, limit=limit)
        self._log(rows)
        return rows
