# SPDX-License-Identifier: Apache-2.0
"""Settings as dataclass fields that carry their unit, range and description.

One source of names, defaults and limits: files, ROS parameters and ``--help`` are made from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

from vla_ros.errors import ConfigError


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[str] = (),
    read_only: bool = False,
) -> Any:
    """Return a dataclass field that carries its description, unit, bounds and choices.

    A tuple of numbers as default makes a list of numbers; the bounds then hold for each.
    """
    return field(
        default=default,
        metadata={
            "description": description,
            "unit": unit,
            "ge": ge,
            "le": le,
            "choices": tuple(choices),
            "read_only": read_only,
        },
    )


def check_fields(config: Any) -> None:
    """Check type, finiteness, bounds and choices of every ``setting`` of a dataclass instance.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """
    for f in fields(config):
        if "description" not in f.metadata:
            continue
        value = getattr(config, f.name)
        if isinstance(f.default, tuple):
            _check_numbers(f.name, value, f.metadata)
            continue
        _check_type(f.name, value, f.default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_range(f.name, value, f.metadata["ge"], f.metadata["le"], f.metadata["unit"])
        choices = f.metadata["choices"]
        if choices and value not in choices:
            raise ConfigError(f"{f.name} must be one of {', '.join(choices)}, got {value!r}")


def _check_type(name: str, value: Any, default: Any) -> None:
    expected = type(default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number if expected is float else isinstance(value, expected)
    if expected is int and isinstance(value, bool):
        fits = False
    if not fits:
        raise ConfigError(
            f"{name} must be {expected.__name__}, got {type(value).__name__} {value!r}"
        )


def _check_numbers(name: str, values: Any, metadata: Any) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{name} must be a list of numbers, got {values!r}")
    for i, value in enumerate(values):
        _check_type(f"{name}[{i}]", value, 0.0)
        _check_range(f"{name}[{i}]", value, metadata["ge"], metadata["le"], metadata["unit"])


def _check_range(name: str, value: float, low: float | None, high: float | None, unit: str) -> None:
    suffix = f" {unit}" if unit else ""
    below = low is not None and value < low
    above = high is not None and value > high
    if math.isfinite(value) and not below and not above:
        return
    limits = f"{'-inf' if low is None else low} to {'inf' if high is None else high}{suffix}"
    raise ConfigError(f"{name} must be {limits}, got {value}{suffix}")


def check_finite(name: str, values: object) -> None:
    """Raise ConfigError unless ``values`` is a tuple of finite numbers."""
    if not isinstance(values, tuple):
        raise ConfigError(f"{name} must be a list of numbers, got {values!r}")
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{name} must be finite, got {values}")
