# SPDX-License-Identifier: Apache-2.0
"""One comparison."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One comparison; smaller is better unless ``what`` says otherwise.

    Attributes:
        target: largest ratio that is aimed at; 0 where none is.
        difference: largest difference of what both compute; 0 where that is not compared.
    """

    name: str
    ours: float
    alternative: float
    ratio: float
    unit: str
    n: int
    what: str
    ours_p99: float = 0.0
    alternative_p99: float = 0.0
    target: float = 0.0
    difference: float = 0.0

    def text(self) -> str:
        """Return two lines for people."""
        tail = f" p99 {self.ours_p99:.2f} against {self.alternative_p99:.2f}"
        goal = f" aimed at {self.target:g}" if self.target else ""
        return (
            f"{self.name:<36} {self.ours:10.2f} against {self.alternative:10.2f} {self.unit:<10} "
            f"ratio {self.ratio:.4f}{goal}  (n = {self.n}{tail if self.ours_p99 else ''})\n"
            f"    {self.what}"
        )


def compared(
    name: str, ours: float, alternative: float, unit: str, n: int, what: str
) -> Measurement:
    """Return the comparison of two numbers."""
    ratio = ours / alternative
    return Measurement(
        name=name, ours=ours, alternative=alternative, ratio=ratio, unit=unit, n=n, what=what
    )
