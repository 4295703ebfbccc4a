# SPDX-License-Identifier: Apache-2.0
"""Strategies by name, and the choice of one that the policy at hand is able to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vla_ros.chunking.strategies.base import PolicyCapabilities, Strategy
from vla_ros.chunking.strategies.naive import Naive, NaiveSettings
from vla_ros.chunking.strategies.synchronous import Synchronous, SynchronousSettings
from vla_ros.chunking.strategies.weighted_average import WeightedAverage, WeightedAverageSettings
from vla_ros.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """One strategy: how it is made, its default settings, what it needs, what comes instead."""

    build: Callable[[PolicyCapabilities, Any], Strategy]
    settings: Any
    lacks: Callable[[PolicyCapabilities], str] = lambda capabilities: ""
    instead: str = ""


ENTRIES: Mapping[str, Entry] = {
    "synchronous": Entry(Synchronous, SynchronousSettings()),
    "naive": Entry(Naive, NaiveSettings()),
    "naive_from_zero": Entry(Naive, NaiveSettings(from_zero=True)),
    "weighted_average": Entry(WeightedAverage, WeightedAverageSettings()),
}


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies."""
    return tuple(ENTRIES)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ConfigError(f"strategy must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


def default_settings(name: str) -> Any:
    """Return the settings that ``name`` has when none are given."""
    return _entry(name).settings


def make_strategy(name: str, capabilities: PolicyCapabilities, settings: Any = None) -> Strategy:
    """Return a new strategy.

    Raises:
        ConfigError: if there is none of this name, the settings are of another one, or the policy
            lacks what it needs; ``negotiate`` finds one that is possible.
    """
    entry = _entry(name)
    missing = entry.lacks(capabilities)
    if missing:
        raise ConfigError(f"{name} needs {missing}")
    chosen = entry.settings if settings is None else settings
    if not isinstance(chosen, type(entry.settings)):
        raise ConfigError(
            f"settings of {name} are {type(entry.settings).__name__}, got {type(chosen).__name__}"
        )
    return entry.build(capabilities, chosen)


def negotiate(capabilities: PolicyCapabilities, wanted: str) -> tuple[str, str]:
    """Return the strategy to use and a sentence saying why.

    ``wanted`` itself where the policy can serve it, else the next one that asks less.

    Raises:
        ConfigError: if there is no strategy of this name.
    """
    name, steps = wanted, []
    while missing := _entry(name).lacks(capabilities):
        steps.append(f"{name} needs {missing}")
        name = _entry(name).instead
    if not steps:
        return name, f"{name}, as asked for: the policy has what it needs."
    return name, f"{name} in place of {wanted}: {'; '.join(steps)}."
