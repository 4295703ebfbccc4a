# SPDX-License-Identifier: Apache-2.0
"""Strategies by name, and the choice of one that the policy at hand is able to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vla_ros.chunking.strategies.base import (
    CorrectionHead,
    Guidance,
    PolicyCapabilities,
    Strategy,
)
from vla_ros.chunking.strategies.consensus import Consensus, ConsensusSettings
from vla_ros.chunking.strategies.learned_correction import (
    LearnedCorrection,
    LearnedCorrectionSettings,
)
from vla_ros.chunking.strategies.naive import Naive, NaiveSettings
from vla_ros.chunking.strategies.real_time_chunking import (
    LEROBOT,
    TRAINED,
    RealTimeChunking,
    RealTimeChunkingSettings,
)
from vla_ros.chunking.strategies.seam_fade import SeamFade, SeamFadeSettings
from vla_ros.chunking.strategies.state_projection import StateProjection, StateProjectionSettings
from vla_ros.chunking.strategies.synchronous import Synchronous, SynchronousSettings
from vla_ros.chunking.strategies.temporal_ensemble import (
    TemporalEnsemble,
    TemporalEnsembleSettings,
)
from vla_ros.chunking.strategies.timed import Timed, TimedSettings, best_guidance
from vla_ros.chunking.strategies.weighted_average import WeightedAverage, WeightedAverageSettings
from vla_ros.errors import ConfigError

Lacks = Callable[[PolicyCapabilities], str]


def _nothing(capabilities: PolicyCapabilities) -> str:
    return ""


def _no_guidance(capabilities: PolicyCapabilities) -> str:
    return "" if capabilities.is_guided else "access to the denoising steps"


def _no_vjp(capabilities: PolicyCapabilities) -> str:
    return "" if capabilities.has_vjp else "the vector-Jacobian product of the policy's velocity"


def _no_prefix(capabilities: PolicyCapabilities) -> str:
    return "" if capabilities.trained_prefix_max > 0 else "a policy trained to continue a prefix"


def _no_head(capabilities: PolicyCapabilities) -> str:
    return "" if capabilities.has_correction else "a correction head"


def _one_candidate(capabilities: PolicyCapabilities) -> str:
    return "" if capabilities.n_candidates > 1 else "several candidates per call"


@dataclass(frozen=True)
class Entry:
    """One strategy: how it is made, its default settings, what it needs, what comes instead."""

    build: Callable[[PolicyCapabilities, Any], Strategy]
    settings: Any
    lacks: Lacks = _nothing
    instead: str = ""


def _corrected(capabilities: PolicyCapabilities, settings: Any) -> Strategy:
    raise ConfigError("learned_correction needs the head of the policy: head=...")


ENTRIES: Mapping[str, Entry] = {
    "synchronous": Entry(Synchronous, SynchronousSettings()),
    "naive": Entry(Naive, NaiveSettings()),
    "naive_from_zero": Entry(Naive, NaiveSettings(from_zero=True)),
    "weighted_average": Entry(WeightedAverage, WeightedAverageSettings()),
    "temporal_ensemble": Entry(TemporalEnsemble, TemporalEnsembleSettings()),
    "rtc_identity": Entry(RealTimeChunking, LEROBOT, _no_guidance, "state_projection"),
    "rtc_vjp": Entry(RealTimeChunking, RealTimeChunkingSettings(), _no_vjp, "rtc_identity"),
    "rtc_trained": Entry(RealTimeChunking, TRAINED, _no_prefix, "rtc_vjp"),
    "state_projection": Entry(StateProjection, StateProjectionSettings()),
    "learned_correction": Entry(_corrected, LearnedCorrectionSettings(), _no_head, "naive"),
    "consensus": Entry(Consensus, ConsensusSettings(), _one_candidate, "naive"),
    "timed": Entry(Timed, TimedSettings()),
}


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies."""
    return tuple(ENTRIES)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ConfigError(f"strategy must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


def missing_ability(name: str, capabilities: PolicyCapabilities) -> str:
    """Return what a policy lacks for a strategy, for people; empty if it lacks nothing."""
    return _entry(name).lacks(capabilities)


def default_settings(name: str) -> Any:
    """Return the settings that ``name`` has when none are given."""
    return _entry(name).settings


def make_strategy(
    name: str,
    capabilities: PolicyCapabilities,
    settings: Any = None,
    *,
    head: CorrectionHead | None = None,
    fade: SeamFadeSettings | None = None,
) -> Strategy:
    """Return a new strategy.

    Args:
        name: one of ``strategy_names()``.
        capabilities: what the policy can do.
        settings: of the strategy's own class; None: its defaults.
        head: the policy's correction head, for ``learned_correction``.
        fade: wraps the strategy, so that its jumps fade.

    Raises:
        ConfigError: if there is none of this name, the settings are of another one, or the policy
            lacks what it needs; ``negotiate`` finds one that is possible.
    """
    entry = _entry(name)
    missing = entry.lacks(capabilities)
    if missing:
        raise ConfigError(f"{name} needs {missing}")
    chosen = entry.settings if settings is None else settings
    if type(chosen) is not type(entry.settings):
        raise ConfigError(
            f"settings of {name} are {type(entry.settings).__name__}, got {type(chosen).__name__}"
        )
    if isinstance(chosen, RealTimeChunkingSettings) and name != f"rtc_{chosen.guidance}":
        raise ConfigError(f"{name} cannot have guidance {chosen.guidance!r}")
    if isinstance(chosen, LearnedCorrectionSettings) and head is not None:
        inner = Naive(capabilities, chosen)
        strategy: Strategy = LearnedCorrection(inner, head, rows_ahead=chosen.rows_ahead)
    else:
        strategy = entry.build(capabilities, chosen)
    return strategy if fade is None else SeamFade(strategy, fade)


def negotiate(capabilities: PolicyCapabilities, wanted: str) -> tuple[str, str]:
    """Return the strategy to use and a sentence saying why.

    ``wanted`` itself where the policy can serve it, else the next one that asks less:
    rtc_trained, rtc_vjp, rtc_identity, state_projection, naive; learned_correction and consensus,
    naive. ``state_projection`` in place of another one only if the policy takes such states.
    ``timed`` is always possible; the sentence says how it ties chunks together.

    Raises:
        ConfigError: if there is no strategy of this name.
    """
    name, steps = wanted, []
    while missing := _entry(name).lacks(capabilities):
        steps.append(f"{name} needs {missing}")
        name = _entry(name).instead
        if name == "state_projection" and not capabilities.takes_projected_state:
            steps.append("state_projection needs a policy that takes a projected state")
            name = "naive"
    if name == "timed":
        return name, f"timed, {_tie(capabilities)}."
    if not steps:
        return name, f"{name}, as asked for: the policy has what it needs."
    return name, f"{name} in place of {wanted}, because {', and '.join(steps)}."


def _tie(capabilities: PolicyCapabilities) -> str:
    if capabilities.has_split_latent:
        return "with rows of the fast half at every step, because the policy is split"
    without = "a projected state" if capabilities.takes_projected_state else "rows entered by time"
    return {
        Guidance.TRAINED: f"with clean prefixes of up to {capabilities.trained_prefix_max} rows",
        Guidance.IDENTITY: "guided by the rows of the running plan",
        Guidance.NONE: f"with {without}, because the policy takes no prefix",
    }[best_guidance(capabilities)]
