# SPDX-License-Identifier: Apache-2.0
"""Sample chunks until there are K of them or the time is up; keep the one that scores best.

Candidate k of a request is the same whatever K and the deadline are, so more of them can only
better the score. Candidate 0 is the chunk that the policy gives without this.

Source: sampling and choosing by pseudo-count (TACO), by value (Cosmos Policy) or by energy
(EBT-Policy); the scorer is a plug-in here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vla_ros.chunking.strategies.base import GenerativePolicy, InferenceRequest
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import PolicyError
from vla_ros.policies.anytime import DeadlinePace, PaceConfig, refine_until
from vla_ros.types import ActionChunk, Observation

Sampler = Callable[[InferenceRequest, int], ActionChunk]


class ChunkScorer(Protocol):
    """Says how good a chunk is: density, value, negative energy."""

    name: str

    def score(self, chunk: ActionChunk, request: InferenceRequest) -> float:
        """Return a number, larger is better; NaN if it cannot be said."""


@dataclass(frozen=True, kw_only=True)
class BestOfConfig:
    """How many candidates, and how their time is expected."""

    candidates: int = setting(16, "chunks of a call at most", unit="chunks", ge=1, le=4096)
    pace: PaceConfig = field(default_factory=PaceConfig)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen.

    Attributes:
        chunk: the best one; None if none was made in time or none has a score.
        scores: of the candidates that were made, in their order; NaN: unusable.
        is_complete: all that were asked for were made.
        is_late: the last one came after the deadline.
    """

    chunk: ActionChunk | None
    scores: tuple[float, ...]
    is_complete: bool
    is_late: bool


def flow_sampler(policy: GenerativePolicy, seed: int = 0) -> Sampler:
    """Return a sampler of a flow policy: candidate k is denoised from noise of its own.

    Prefix and guidance of the request hold for every candidate.
    """

    def sample(request: InferenceRequest, k: int) -> ActionChunk:
        own = policy.noise(request)
        if k == 0:
            return guided_denoise(policy, request, own)
        random = np.random.default_rng([seed, request.seq, k])
        return guided_denoise(policy, request, random.standard_normal(own.shape))

    return sample


class BestOf:
    """Chooses among candidates of one request within a deadline.

    It is handed the clock and starts no thread. Thread-safety: one thread.
    """

    def __init__(
        self, sample: Sampler, scorer: ChunkScorer, config: BestOfConfig | None = None
    ) -> None:
        self._sample, self._scorer = sample, scorer
        self._config = config or BestOfConfig()
        self._pace = DeadlinePace(self._config.pace)

    def choose(
        self, request: InferenceRequest, deadline_ns: int, now_ns: Callable[[], int]
    ) -> Selection:
        """Return the best of the candidates that are made by the deadline."""
        sampling = _Sampling(self._sample, self._scorer, request, self._config.candidates)
        answer = refine_until(sampling, request.observation, deadline_ns, now_ns, self._pace)
        return Selection(
            chunk=answer.best,
            scores=tuple(sampling.scores),
            is_complete=answer.is_complete,
            is_late=answer.is_late,
        )


class _Sampling:
    """Candidates as the steps of an anytime model."""

    def __init__(
        self, sample: Sampler, scorer: ChunkScorer, request: InferenceRequest, n: int
    ) -> None:
        self.n_steps = n
        self.scores: list[float] = []
        self._sample, self._scorer, self._request = sample, scorer, request

    def first(self, observation: Observation) -> ActionChunk | None:
        return None

    def refine(self, candidate: ActionChunk | None, step: int) -> ActionChunk | None:
        chunk: ActionChunk | None = None
        score = math.nan
        try:
            chunk = self._sample(self._request, step)
            if np.isfinite(chunk.positions).all() and np.isfinite(chunk.quats_xyzw).all():
                score = self._scorer.score(chunk, self._request)
        except PolicyError:
            chunk = None  # one that fails does not spoil the others
        self.scores.append(score)
        return chunk

    def energy(self, candidate: ActionChunk | None) -> float:
        return -self.scores[-1] if self.scores else math.inf
