# SPDX-License-Identifier: Apache-2.0
"""A slow and a fast model at the same time, each at its rate: what the fast one then waits for."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from vla_ros.clock import NS_PER_MS, NS_PER_S

_WARM_UP = 5
Call = Callable[[], object]


@dataclass(frozen=True)
class Rates:
    """How often each is asked, what is wanted at least, and for how long."""

    slow_hz: float = 3.5
    fast_hz: float = 33.0
    slow_wanted_hz: float = 3.0
    fast_wanted_hz: float = 30.0
    seconds: float = 10.0
    rounds: int = 3


@dataclass(frozen=True, kw_only=True)
class Together:
    """What one backend did; latencies [ms] are of single calls, from the question to the answer.

    Attributes:
        fast_alone, fast: without and with the slow model running.
        problem: why there is nothing, empty if there is.
    """

    backend: str
    where: str = ""
    fast_alone_p50_ms: float = float("nan")
    fast_alone_p99_ms: float = float("nan")
    fast_p50_ms: float = float("nan")
    fast_p99_ms: float = float("nan")
    slow_p50_ms: float = float("nan")
    slow_p99_ms: float = float("nan")
    fast_hz: float = float("nan")
    slow_hz: float = float("nan")
    n_fast: int = 0
    n_slow: int = 0
    is_at_rate: bool = False
    difference: float = float("nan")
    problem: str = ""


class _Loop:
    """Calls at a rate, no faster; a call that is late makes no other one early."""

    def __init__(self, call: Call, rate_hz: float) -> None:
        self._call, self._period_ns = call, round(NS_PER_S / rate_hz)
        self.taken_ns: list[int] = []
        self.elapsed_ns = 0
        self.error: Exception | None = None

    def run(self, is_over: threading.Event) -> None:
        """Call until it is over; an error ends it."""
        began_ns = next_ns = time.perf_counter_ns()
        while not is_over.is_set():
            start_ns = time.perf_counter_ns()
            try:
                self._call()
            except Exception as error:  # whatever it is, the result says so
                self.error = error
                is_over.set()
                return
            now_ns = time.perf_counter_ns()
            self.taken_ns.append(now_ns - start_ns)
            next_ns = max(next_ns + self._period_ns, now_ns)
            is_over.wait((next_ns - now_ns) / NS_PER_S)
        self.elapsed_ns = time.perf_counter_ns() - began_ns

    @property
    def hz(self) -> float:
        """Calls per second."""
        return len(self.taken_ns) * NS_PER_S / max(self.elapsed_ns, 1)


def run_together(
    backend: str, where: str, slow: Call, fast: Call, rates: Rates, difference: float
) -> Together:
    """Measure the fast one alone and beside the slow one, in turns."""
    for _ in range(_WARM_UP):
        slow()
        fast()
    alone: list[int] = []
    beside: list[int] = []
    slowly: list[int] = []
    hz: list[tuple[float, float]] = []
    for _ in range(rates.rounds):
        loop = _run([_Loop(fast, rates.fast_hz)], rates.seconds)[0]
        alone += loop.taken_ns
        loop, other = _run([_Loop(fast, rates.fast_hz), _Loop(slow, rates.slow_hz)], rates.seconds)
        beside += loop.taken_ns
        slowly += other.taken_ns
        hz.append((loop.hz, other.hz))
    fast_hz, slow_hz = (float(v) for v in np.mean(hz, axis=0))
    return Together(
        backend=backend,
        where=where,
        fast_alone_p50_ms=_ms(alone, 0.5),
        fast_alone_p99_ms=_ms(alone, 0.99),
        fast_p50_ms=_ms(beside, 0.5),
        fast_p99_ms=_ms(beside, 0.99),
        slow_p50_ms=_ms(slowly, 0.5),
        slow_p99_ms=_ms(slowly, 0.99),
        fast_hz=fast_hz,
        slow_hz=slow_hz,
        n_fast=len(beside),
        n_slow=len(slowly),
        is_at_rate=fast_hz >= rates.fast_wanted_hz and slow_hz >= rates.slow_wanted_hz,
        difference=difference,
    )


def _run(loops: Sequence[_Loop], seconds: float) -> Sequence[_Loop]:
    is_over = threading.Event()
    threads = [threading.Thread(target=loop.run, args=(is_over,)) for loop in loops]
    for thread in threads:
        thread.start()
    is_over.wait(seconds)
    is_over.set()
    for thread in threads:
        thread.join()
    for loop in loops:
        if loop.error is not None:
            raise loop.error
    return loops


def _ms(taken_ns: Sequence[int], q: float) -> float:
    return float(np.quantile(taken_ns, q)) / NS_PER_MS


def to_markdown(results: Sequence[Together], about: str) -> str:
    """Return a table for people."""
    lines = [
        about,
        "",
        "| backend | fast alone p50 / p99 | fast beside slow p50 / p99 | slow p50 / p99 | rates "
        "| at rate | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        if r.problem:
            lines.append(f"| {r.backend} | {r.problem} | | | | | |")
            continue
        lines.append(
            f"| {r.backend} | {r.fast_alone_p50_ms:.2f} / {r.fast_alone_p99_ms:.2f} ms "
            f"| {r.fast_p50_ms:.2f} / {r.fast_p99_ms:.2f} ms "
            f"| {r.slow_p50_ms:.1f} / {r.slow_p99_ms:.1f} ms "
            f"| {r.fast_hz:.1f} and {r.slow_hz:.2f} Hz | {'yes' if r.is_at_rate else 'no'} "
            f"| {r.difference:.2g} |"
        )
    lines += ["", *(f"- {r.backend}: {r.where}" for r in results if r.where)]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, results: Sequence[Together], **about: object) -> None:
    """Write one line per backend; ``about`` is the same in every line."""
    names = [*about, *(f.name for f in fields(Together))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({**about, **asdict(result)} for result in results)
