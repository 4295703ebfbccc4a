# SPDX-License-Identifier: Apache-2.0
"""Notices who has fallen silent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Watchdog:
    """Remembers when each of the expected names was last heard.

    Judged on data, not on whether a process exists: a frozen process is as silent as a dead one.
    """

    def __init__(self, names: Iterable[str], timeout_ns: int, now_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._heard_ns = dict.fromkeys(names, now_ns)

    def heard(self, name: str, now_ns: int) -> None:
        """Note a sign of life."""
        if name in self._heard_ns:
            self._heard_ns[name] = now_ns

    def silent(self, now_ns: int) -> Mapping[str, float]:
        """Return who has been silent for longer than allowed, and for how long [s]."""
        return {
            name: (now_ns - heard_ns) * 1e-9
            for name, heard_ns in self._heard_ns.items()
            if now_ns - heard_ns > self._timeout_ns
        }
