# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import dataclasses

import pytest

from vla_ros.commands.stop_trials import StopTrial, are_in_time, render_stops, write_stops

TRIAL = StopTrial(
    trial=0,
    frozen=False,
    phase_ms=100.0,
    speed_m_s=0.3,
    published_ms=2.0,
    received_ms=0.5,
    ticks=1,
    rest_ms=100.0,
    stopped=True,
)


def trials(n=30, **last):
    made = [dataclasses.replace(TRIAL, trial=i, frozen=i % 3 == 0) for i in range(n - 1)]
    return [*made, dataclasses.replace(TRIAL, trial=n - 1, **last)]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({}, True),
        ({"ticks": 2}, True),
        ({"ticks": 3}, False),
        ({"stopped": False}, False),
        ({"published_ms": 500.0}, False),
    ],
)
def test_every_stop_must_hold_within_two_ticks(last, expected):
    assert are_in_time(trials(**last)) is expected


def test_table_counts_trials_with_and_without_frozen_policies():
    text = render_stops(trials(30, ticks=3, published_ms=7.0))
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert rows["all"][1:4] == ["30", "29", "3"]
    assert rows["policies frozen"][1:4] == ["10", "10", "1"]
    assert rows["policies running"][1] == "20"
    assert rows["all"][5].endswith(", 7.00")


def test_every_trial_is_written(tmp_path):
    write_stops(trials(5), tmp_path / "results")
    with (tmp_path / "results" / "stop.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(5))
    assert (tmp_path / "results" / "stop.md").read_text(encoding="utf-8").startswith("# Stop")
