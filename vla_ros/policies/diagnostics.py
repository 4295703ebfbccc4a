# SPDX-License-Identifier: Apache-2.0
"""What a policy says of itself, for ``/diagnostics``; a policy may have nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

Values = Mapping[str, float | str]


@runtime_checkable
class Diagnosed(Protocol):
    """A policy with numbers about itself, named with their unit."""

    def diagnostics(self) -> Values:
        """Return the numbers as they are now; cheap, from any thread."""


@runtime_checkable
class Alarming(Protocol):
    """A policy that goes on although something is wrong with it."""

    @property
    def alarm(self) -> str:
        """Return what is wrong, for people; empty if nothing is."""


def diagnostics_of(policy: object) -> dict[str, float | str]:
    """Return what a policy says of itself, nothing if it does not."""
    return dict(policy.diagnostics()) if isinstance(policy, Diagnosed) else {}


def alarm_of(policy: object) -> str:
    """Return what a policy says is wrong with it, empty if nothing."""
    return policy.alarm if isinstance(policy, Alarming) else ""
