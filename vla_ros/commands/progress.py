# SPDX-License-Identifier: Apache-2.0
"""How far a long command is: one line that is rewritten on a terminal, a line now and then else."""

from __future__ import annotations

import sys
import time

_EVERY_S = 30.0


class ProgressLine:
    """Counts up to a total and says how long the rest will take.

    Args:
        total: what is counted up to.
        unit: what is counted, in the plural.
        done: how much of it was there before.
    """

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self._total, self._unit, self._done, self._before = total, unit, done, done
        self._began = self._said = time.monotonic()

    def add(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more; ``note`` is shown behind."""
        self._done += n
        now = time.monotonic()
        if sys.stderr.isatty():
            sys.stderr.write("\r" + self._text(now, note).ljust(100))
            if self._done >= self._total:
                sys.stderr.write("\n")
        elif now - self._said >= _EVERY_S or self._done >= self._total:
            self._said = now
            sys.stderr.write(self._text(now, note) + "\n")
        sys.stderr.flush()

    def _text(self, now: float, note: str) -> str:
        share = self._done / max(self._total, 1)
        fresh = max(self._done - self._before, 1)
        left_s = (now - self._began) / fresh * (self._total - self._done)
        bar = "#" * round(24 * share)
        return (
            f"[{bar:<24}] {self._done}/{self._total} {self._unit}, "
            f"{left_s / 60:.1f} min to go  {note}"
        )
