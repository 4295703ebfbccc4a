# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vla_ros.report.contact import wilson_interval, write_report


@pytest.mark.parametrize(
    ("successes", "low", "high"),
    [(95, 0.8883, 0.9785), (0, 0.0, 0.0370), (100, 0.9630, 1.0)],
)
def test_wilson_interval_of_100_trials(successes, low, high):
    """Reference values of the Wilson score interval without continuity correction."""
    assert wilson_interval(successes, 100) == pytest.approx((low, high), abs=2e-4)


def peg_rows(case: str, n: int, good: int, penetration_um: float = 1.0) -> list[dict[str, str]]:
    return [
        {
            "case": case, "seed": str(i), "success": str(i < good), "time_s": "9.0",
            "reason": "inserted" if i < good else "stuck", "error_mm": "1", "axial_n": "10",
            "lateral_n": "5", "penetration_um": str(penetration_um),
        }
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "blind", "stiff", "penetration_um", "met"),
    [(92, 10, 60, 5.0, True), (89, 10, 20, 5.0, False), (92, 31, 20, 5.0, False),
     (92, 10, 63, 5.0, False), (92, 10, 60, 51.0, False)],
)  # fmt: skip
def test_every_gate_counts(tmp_path, ours, blind, stiff, penetration_um, met):
    rows = peg_rows("search", 100, ours, penetration_um)
    rows += peg_rows("no_search", 100, blind) + peg_rows("stiff", 100, stiff)
    result, text = write_report("peg", rows, tmp_path)
    assert result is met
    assert f"{ours} of 100" in text
    assert (tmp_path / "contact_peg.svg").stat().st_size > 1000
