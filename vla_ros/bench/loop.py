# SPDX-License-Identifier: Apache-2.0
"""The law in a loop at a fixed rate, beside the same thread with nothing to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import vla_ros_core as core
from vla_ros.bench.law import random_states
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import ArmDescription, build_model, to_law_config
from vla_ros.errors import ConfigError

PRIORITIES = ("normal", "fifo")
_QUANTILES = (("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0))
_SERIES = {
    "period": "wake-up to wake-up",
    "compute": "computing the law",
    "late": "wake-up after its deadline",
}


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """Times of one loop [us]; ``idle`` ones are of the same thread without the law."""

    priority: str
    scheduling: str
    seconds: int
    load_before: float
    load_after: float
    times: dict[str, np.ndarray[Any, np.dtype[np.float64]]]

    def text(self) -> str:
        """Return a table for people."""
        lines = [
            f"{self.priority}: {self.scheduling}; {self.seconds} s of each, load average "
            f"{self.load_before:.2f} before and {self.load_after:.2f} after",
            f"{'[us]':<34}" + "".join(f"{name:>10}" for name, _ in _QUANTILES) + f"{'n':>9}",
        ]
        for key, values in self.times.items():
            who, series = key.split(" ")
            row = "".join(f"{np.percentile(values, q):10.1f}" for _, q in _QUANTILES)
            lines.append(f"{who + ', ' + _SERIES[series]:<34}{row}{len(values):9d}")
        return "\n".join(lines)


def measure_loop(
    bench: ModuleType, arm: ArmDescription, seconds: int, priorities: tuple[str, ...] = PRIORITIES
) -> list[LoopResult]:
    """Run the loop at 1 kHz for ``seconds`` of work and as many of idling, in turns of a second."""
    states = random_states(bench, arm, 1000)
    # A path that a robot could follow: the states one by one would be a new pose every millisecond.
    phase = 2.0 * np.pi * np.arange(1000) / 1000
    home = np.array(arm.posture)[:, None]
    swing = 0.1 * np.sin(phase + np.arange(len(home))[:, None])
    states.q, states.dq = home + swing, 0.1 * 2.0 * np.pi * np.cos(phase) + 0.0 * home
    results = []
    for priority in priorities:
        config = to_law_config(ControlConfig(), arm)
        before = os.getloadavg()[0]
        try:
            loop = bench.run_loop(config, build_model(arm), states, seconds, 1000.0, priority)
        except core.Error as error:
            raise ConfigError(f"priority {priority}: {error}") from error
        times = {
            f"{who} {series}": np.asarray(getattr(loop, f"{who}_{series}_ns")) / 1000.0
            for who, series in (
                ("law", "period"),
                ("idle", "period"),
                ("law", "late"),
                ("idle", "late"),
                ("law", "compute"),
            )
        }
        results.append(
            LoopResult(
                priority=priority,
                scheduling=loop.scheduling,
                seconds=seconds,
                load_before=before,
                load_after=os.getloadavg()[0],
                times=times,
            )
        )
    return results


def plot_loop(results: list[LoopResult], path: Path) -> None:
    """Write histograms of period and computation to an SVG or PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(results), 2, figsize=(10, 3.2 * len(results)), squeeze=False)
    for row, result in zip(axes, results, strict=True):
        period, compute = row
        bins = np.geomspace(0.5, 20_000, 120)
        for who in ("law", "idle"):
            off = np.abs(result.times[f"{who} period"] - 1000.0)
            label = "with the law" if who == "law" else "with nothing to do"
            period.hist(off, bins=bins, histtype="step", label=label)
        period.set_xlabel("period, distance from 1000 µs [µs]")
        compute.hist(result.times["law compute"], bins=np.geomspace(1, 2000, 120), histtype="step")
        compute.set_xlabel("computation [µs]")
        for ax in row:
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_ylabel("ticks")
            ax.set_title(f"{result.priority} priority, {result.seconds} s", fontsize=10)
        period.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
