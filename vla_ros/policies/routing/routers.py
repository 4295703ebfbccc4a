# SPDX-License-Identifier: Apache-2.0
"""Routers: always the same, by a rule, by the small model's uncertainty, by a learned score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from vla_ros.errors import ConfigError
from vla_ros.policies.routing.base import Backbone, Choice, RouteQuery


class FixedRouter:
    """Always the same model."""

    def __init__(self, backbone: Backbone) -> None:
        self._choice = Choice(backbone, f"always {backbone.value}")
        self.name = f"always_{backbone.value}"

    def choose(self, query: RouteQuery) -> Choice:
        """Return the model."""
        return self._choice


class RuleRouter:
    """The large model where one feature of the observation is above a threshold.

    A missing feature counts as difficult: nobody knows that it is easy.
    """

    name = "rule"

    def __init__(self, feature: str, threshold: float) -> None:
        self._feature = feature
        self._threshold = _finite("threshold", threshold)

    def choose(self, query: RouteQuery) -> Choice:
        """Return the model; the small one's answer changes nothing."""
        value = query.features.get(self._feature)
        if value is None or not math.isfinite(value):
            return Choice(Backbone.LARGE, f"{self._feature} is not known")
        is_hard = value > self._threshold
        sign = ">" if is_hard else "<="
        reason = f"{self._feature} {value:.6g} {sign} {self._threshold:.6g}"
        return Choice(Backbone.LARGE if is_hard else Backbone.SMALL, reason)


class UncertaintyRouter:
    """The small model first; the large one too where the small one is not certain.

    A small model that does not say how certain it is counts as uncertain.
    """

    name = "uncertainty"

    def __init__(self, threshold: float) -> None:
        self._threshold = _finite("threshold", threshold)

    def choose(self, query: RouteQuery) -> Choice:
        """Return the model."""
        if not query.has_small_answer:
            return Choice(Backbone.SMALL, "ask the small one first")
        value = query.uncertainty
        if value is None or not math.isfinite(value):
            return Choice(Backbone.LARGE, "uncertainty is not known")
        is_hard = value > self._threshold
        sign = ">" if is_hard else "<="
        reason = f"uncertainty {value:.6g} {sign} {self._threshold:.6g}"
        return Choice(Backbone.LARGE if is_hard else Backbone.SMALL, reason)


class RouteScorer(Protocol):
    """A learned model of how likely the small backbone fails, from the query."""

    def score(self, query: RouteQuery) -> float:
        """Return a probability, 0 to 1; the same for the same query."""


class LearnedRouter:
    """The large model where a learned score says that the small one would probably fail."""

    name = "learned"

    def __init__(self, scorer: RouteScorer, threshold: float = 0.5) -> None:
        self._scorer = scorer
        self._threshold = _finite("threshold", threshold)

    def choose(self, query: RouteQuery) -> Choice:
        """Return the model."""
        score = self._scorer.score(query)
        if not math.isfinite(score):
            return Choice(Backbone.LARGE, "score is not finite")
        is_hard = score > self._threshold
        sign = ">" if is_hard else "<="
        reason = f"score {score:.6g} {sign} {self._threshold:.6g}"
        return Choice(Backbone.LARGE if is_hard else Backbone.SMALL, reason)


class LogisticScorer:
    """The simplest scorer: sigmoid of a weighted sum of features.

    Args:
        weights: by feature; ``uncertainty`` means the small model's, 0 before it has answered.
        bias: added to the sum.
    """

    def __init__(self, weights: Mapping[str, float], bias: float = 0.0) -> None:
        self._weights = {name: _finite(name, value) for name, value in sorted(weights.items())}
        self._bias = _finite("bias", bias)

    def score(self, query: RouteQuery) -> float:
        """Return the probability; 1 where a feature is missing."""
        total = self._bias
        for name, weight in self._weights.items():
            value = query.uncertainty if name == "uncertainty" else query.features.get(name)
            if value is None and name == "uncertainty" and not query.has_small_answer:
                value = 0.0
            if value is None or not math.isfinite(value):
                return 1.0
            total += weight * value
        return 1.0 / (1.0 + math.exp(-max(min(total, 500.0), -500.0)))


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be finite, got {value}")
    return value
