# SPDX-License-Identifier: Apache-2.0
"""Stops at random phases of a motion: how long from asking to holding, and the table of it."""

from __future__ import annotations

import csv
import dataclasses
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.sim.tasks import instruction_for_seed

if TYPE_CHECKING:
    from vla_ros.nodes.fault_rig import FaultRig

MAX_TICKS = 2
MAX_PUBLISHED_MS = 50.0
_FREEZE_EVERY = 3
_POLICY_NODES = ("executor_node", "vla_node")
_LATEST_PHASE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class StopTrial:
    """One stop. ``ticks``: control ticks from receipt to the first that holds, that one included.

    Attributes:
        frozen: the processes of both policies were frozen before.
        phase_ms: how long the arm had been moving.
        speed_m_s: speed of the reference when the stop was asked for.
        published_ms, received_ms: from publication and from receipt to hold.
        rest_ms: from hold to the first tick with the reference at rest.
    """

    trial: int
    frozen: bool
    phase_ms: float
    speed_m_s: float
    published_ms: float
    received_ms: float
    ticks: int
    rest_ms: float
    stopped: bool

    @property
    def ok(self) -> bool:
        """True if the arm held in time."""
        return self.stopped and self.ticks <= MAX_TICKS


def run_stops(rig: FaultRig, n: int, say: Callable[[str], None]) -> list[StopTrial]:
    """Stop ``n`` times in one running stack, every third time with both policies frozen."""
    draw = random.Random(1)
    trials: list[StopTrial] = []
    for i in range(n):
        trials.append(_stop(rig, i, draw.uniform(0.0, _LATEST_PHASE_S)))
        if (i + 1) % 25 == 0:
            say(f"stop {i + 1} of {n}: {sum(t.ok for t in trials)} in time")
    return trials


def _stop(rig: FaultRig, i: int, phase_s: float) -> StopTrial:
    frozen = i % _FREEZE_EVERY == 0
    result = rig.begin_motion(i, instruction_for_seed(i))
    rig.pause(phase_s)
    frozen_nodes = _POLICY_NODES if frozen else ()
    for name in frozen_nodes:
        rig.signal(name, signal.SIGSTOP)
    try:
        measured = rig.stop_once()
    finally:
        for name in frozen_nodes:
            rig.signal(name, signal.SIGCONT)
    rig.wait("the end of the task", result.done, 5.0)
    rig.resume()
    return StopTrial(trial=i, frozen=frozen, phase_ms=round(1000.0 * phase_s, 1), **measured)


def write_stops(trials: Sequence[StopTrial], folder: Path) -> None:
    """Write ``stop.csv`` with every trial and ``stop.md`` with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(StopTrial)]
    with (folder / "stop.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(t) for t in trials)
    (folder / "stop.md").write_text(render_stops(trials), encoding="utf-8")


def render_stops(trials: Sequence[StopTrial]) -> str:
    """Return the table of all stops as Markdown."""
    groups = {
        "all": list(trials),
        "policies running": [t for t in trials if not t.frozen],
        "policies frozen": [t for t in trials if t.frozen],
    }
    lines = [
        "# Stop: from asking to holding",
        "",
        "`vla-ros faults --nodes '' --stops 300 --results docs/results`: one running stack, stops "
        "by topic at random phases of the motion, in every third trial with the processes of both "
        "policies frozen. Every trial is in [stop.csv](stop.csv). *Received*: the control process "
        "has the message. *Hold*: the first control tick whose mode is STOPPED; there the "
        "reference begins to brake.",
        "",
        "| trials | n | in time | most ticks received to hold "
        "| received to hold p50, p99, max [ms] | published to hold p50, p99, max [ms] "
        "| brake to rest p50, max [ms] |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        if group:
            lines.append(f"| {name} | {_row(group)} |")
    return "\n".join(lines) + "\n"


def _row(group: Sequence[StopTrial]) -> str:
    def column(name: str) -> np.ndarray:
        return np.array([getattr(t, name) for t in group], dtype=float)

    def tail(name: str) -> str:
        values = column(name)
        p50, p99 = np.percentile(values, (50, 99))
        return f"{p50:.2f}, {p99:.2f}, {values.max():.2f}"

    rest = column("rest_ms")
    return " | ".join(
        (
            str(len(group)),
            str(sum(t.ok for t in group)),
            str(max(t.ticks for t in group)),
            tail("received_ms"),
            tail("published_ms"),
            f"{np.median(rest):.0f}, {rest.max():.0f}",
        )
    )


def are_in_time(trials: Sequence[StopTrial]) -> bool:
    """Say whether every stop held in time and 99 of 100 soon after they were asked for."""
    published_ms = [t.published_ms for t in trials]
    return all(t.ok for t in trials) and float(np.percentile(published_ms, 99)) <= MAX_PUBLISHED_MS
