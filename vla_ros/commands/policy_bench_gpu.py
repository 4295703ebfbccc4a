# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy bench-gpu``: a policy of billions of weights, both halves at the same time."""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vla_ros.bench.large_sizes import SIZES, parameters
from vla_ros.bench.together import Rates, to_markdown, write_csv
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError

_AUTO = "auto"
_BACKENDS = ("cpu", "cuda", "tensorrt", "torch")


@dataclass(frozen=True, kw_only=True)
class BenchGpuOptions:
    """What is made and how it is timed."""

    size: str = setting(
        "3b", "of the trunk: 3.0 billion weights, 0.09, or next to none", choices=tuple(SIZES)
    )
    backends: str = setting(
        _AUTO, f"comma separated: {', '.join(_BACKENDS)}; auto: all that can use a GPU"
    )
    seconds: float = setting(10.0, "of each part of a round", unit="s", ge=0.1, le=3600.0)
    rounds: int = setting(3, "alone, then together, so many times", ge=1, le=100)
    slow_hz: float = setting(3.5, "how often the slow half is asked", unit="Hz", ge=0.1, le=100.0)
    fast_hz: float = setting(33.0, "how often the fast half is asked", unit="Hz", ge=1.0, le=500.0)
    threads: int = setting(1, "threads on the CPU", ge=1, le=64)
    folder: str = setting(
        "", "keeps the export for the next time; empty: written anew and removed, 7 GB for 3b"
    )
    out: str = setting("runs/bench-gpu", "folder of the results, CSV and Markdown")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.backends.split(","):
            if name not in (_AUTO, *_BACKENDS):
                raise ConfigError(f"backends must be among {', '.join(_BACKENDS)}, got {name!r}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to time"), BenchGpuOptions)


def run(namespace: argparse.Namespace) -> int:
    """Make the export, run every backend, write the table; say so where there is no GPU."""
    from vla_ros.bench.gpu_policy import gpu_backends, measure_large
    from vla_ros.bench.large_policy import write_large_policy

    options = read_options(namespace, BenchGpuOptions)
    backends = options.backends.split(",")
    if backends == [_AUTO]:
        backends, missing = gpu_backends()
        if missing:
            say(f"left out: {missing}")
        if not backends:
            say("skipped: no GPU can be used here; --backends cpu,torch --size tiny tries the rest")
            return 0
    size = SIZES[options.size]
    weights = {half: parameters(size, half) for half in ("slow", "fast")}
    about = (
        f"Weights drawn at random: slow {weights['slow'] / 1e9:.3g} billion, fast "
        f"{weights['fast'] / 1e9:.3g} billion, 16-bit floats. Asked {options.slow_hz:g} and "
        f"{options.fast_hz:g} times a second at the same time; {options.rounds} rounds of "
        f"{options.seconds:g} s each; largest difference of outputs to {backends[0]}."
    )
    rates = Rates(
        slow_hz=options.slow_hz,
        fast_hz=options.fast_hz,
        seconds=options.seconds,
        rounds=options.rounds,
    )
    folder = Path(options.folder) if options.folder else Path(tempfile.mkdtemp(prefix="vla_ros_"))
    try:
        if not (folder / "manifest.yaml").is_file():
            say(f"writing {2e-9 * sum(weights.values()):.2g} GB into {folder}")
            write_large_policy(folder, size)
        results = measure_large(folder, size, backends, rates, options.threads, say)
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    table = to_markdown(results, about)
    (out / "bench_gpu.md").write_text(table, encoding="utf-8")
    write_csv(out / "bench_gpu.csv", results, size=options.size, machine=platform.machine())
    say(table)
    say(f"written to {out}")
    return 1 if all(result.problem for result in results) else 0
