# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy bench``: how long the graphs of an export take."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import PolicyFolder, open_policy
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS, SessionSettings


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is timed."""

    providers: str = setting(AUTO, "where to run, comma separated")
    threads: str = setting("1", "thread counts on the CPU, comma separated")
    repeats: int = setting(200, "calls of every graph", ge=1, le=10**6)
    beside: str = setting(
        "", "module:function that makes the same graphs in another runtime; see docs/policies.md"
    )
    checkpoint: str = setting(
        "", "what the export was made from: time PyTorch eager beside it, on the CPU"
    )
    cache: bool = setting(
        False, "also the slow half with its cache beside itself without, on rendered images"
    )
    beside_name: str = setting("torch", "what that runtime is called in the results")
    out: str = setting("", "file for the results, JSON")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.providers.split(","):
            if name not in PROVIDERS:
                raise ConfigError(f"providers must be among {', '.join(PROVIDERS)}, got {name!r}")
        self.settings()

    def settings(self) -> list[SessionSettings]:
        """Return every combination of provider and thread count."""
        try:
            counts = [int(part) for part in self.threads.split(",")]
        except ValueError as error:
            raise ConfigError(f"threads must be whole numbers, got {self.threads!r}") from error
        return [
            SessionSettings(provider=provider, threads=n)
            for provider in self.providers.split(",")
            for n in counts
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("policy", help="folder of the export, or its manifest.yaml")
    add_options(parser.add_argument_group("what to time"), BenchOptions)


def run(namespace: argparse.Namespace) -> int:
    """Measure, print and, if asked to, write the results."""
    from vla_ros.bench.policy import compare_graphs, load_peer, measure_graphs

    options = read_options(namespace, BenchOptions)
    folder = open_policy(namespace.policy)
    if options.cache:
        folder.manifest.demand_cache()
    results: list[dict[str, object]] = []
    peer = load_peer(options.beside) if options.beside else None
    for settings in options.settings():
        if options.checkpoint:
            from vla_ros.bench.torch_policy import measure_torch

            checkpoint = Path(options.checkpoint)
            for result in measure_torch(options.repeats, folder.path, checkpoint, settings.threads):
                say(result.text())
                results.append(asdict(result))
            continue
        if peer is not None:
            for result in compare_graphs(
                folder, settings, options.repeats, peer, options.beside_name
            ):
                say(result.text())
                results.append(asdict(result))
            continue
        for times in measure_graphs(folder, settings, options.repeats):
            parts = ", ".join(f"{part} {ms:.3f}" for part, ms in times.parts_p50.items())
            say(
                f"{times.graph:<9} {times.provider:<15} {times.threads} threads  "
                f"p50 {times.total_p50:8.3f} ms  p99 {times.total_p99:8.3f} ms  "
                f"(p50 of {parts}; n = {times.n})"
            )
            results.append(asdict(times))
    if options.cache:
        results += _time_cache(folder, options)
    if options.out:
        path = Path(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        say(f"written to {path}")
    return 0


def _time_cache(folder: PolicyFolder, options: BenchOptions) -> list[dict[str, object]]:
    """Time the learned trunk with its cache and without, with all settings."""
    from vla_ros.bench.cached_trunk import measure_cached_trunk

    results = []
    for settings in options.settings():
        for result in measure_cached_trunk(folder, settings, options.repeats):
            say(result.text())
            results.append(asdict(result))
    return results
