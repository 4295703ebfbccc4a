# SPDX-License-Identifier: Apache-2.0
"""Policies by name; each is imported only when asked for."""

from __future__ import annotations

from vla_ros.errors import ConfigError
from vla_ros.policies.base import FastPolicy, SlowPolicy

SLOW_POLICIES = ("classical",)
FAST_POLICIES = ("classical",)


def make_slow_policy(name: str) -> SlowPolicy:
    """Return a new slow policy.

    Raises:
        ConfigError: if there is none of this name.
    """
    if name == "classical":
        from vla_ros.policies.classical_slow import ClassicalSlowPolicy

        return ClassicalSlowPolicy()
    raise ConfigError(f"slow policy must be one of {', '.join(SLOW_POLICIES)}, got {name!r}")


def make_fast_policy(name: str) -> FastPolicy:
    """Return a new fast policy.

    Raises:
        ConfigError: if there is none of this name.
    """
    if name == "classical":
        from vla_ros.policies.classical_fast import ClassicalFastPolicy

        return ClassicalFastPolicy()
    raise ConfigError(f"fast policy must be one of {', '.join(FAST_POLICIES)}, got {name!r}")
