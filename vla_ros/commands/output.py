# SPDX-License-Identifier: Apache-2.0
"""What a person sees in the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla_ros.report.summary import EpisodeResult, Summary

_WIDTH = 72


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_progress(phase: str, elapsed_s: float, latent_age_ms: float) -> None:
    """Rewrite the progress line; nothing when the output is not a terminal."""
    if not sys.stdout.isatty():
        return
    text = f"  {elapsed_s:5.1f} s  {phase:<10} latent {latent_age_ms:5.0f} ms" if phase else ""
    sys.stdout.write("\r" + text.ljust(_WIDTH) + "\r")
    sys.stdout.flush()


def show_table(summary: Summary, results: Sequence[EpisodeResult], folder: Path) -> None:
    """Print the outcome of a run."""
    c, f, s = summary.control, summary.fast, summary.slow
    skipped = 100 * c.skipped / max(1, c.ticks + c.skipped)
    rows = [
        ("policy", f"{summary.policy}, strategy {summary.strategy}"),
        ("success", f"{summary.successes} of {len(results)}"),
        (
            "control",
            f"{_n(c.rate_hz, 0)} Hz, period p99 {_n(c.period_us_p99, 0)} us, "
            f"{skipped:.2f} % skipped, compute p99 {_n(c.compute_us_p99, 0)} us",
        ),
        ("fast", f"{_n(f.chunks_hz)} chunks/s, interval p99 {_n(f.interval_ms_p99)} ms"),
        (
            "slow",
            f"{_n(s.rate_hz)} Hz, latency p50 {_n(s.latency_ms_p50, 0)} ms, "
            f"p95 {_n(s.latency_ms_p95, 0)} ms",
        ),
        (
            "latent age",
            f"p50 {_n(summary.latent_age_ms.p50, 0)} ms, "
            f"p95 {_n(summary.latent_age_ms.p95, 0)} ms, "
            f"error against the image {_n(summary.age_error_ms_max, 2)} ms at most",
        ),
        (
            "recording",
            f"{summary.recording.recorded} of {summary.recording.published} messages, "
            f"{summary.recording.lost} lost",
        ),
        (
            "faults",
            "none"
            if not summary.faults
            else "; ".join(f"{x.kind} ({x.detail})" for x in summary.faults[:3]),
        ),
        ("results", str(folder)),
    ]
    say("")
    for name, text in rows:
        say(f"{name:<12}{text}")


def _n(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
