# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy``: check, show and time an exported policy before it moves a robot."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, VlaRosError
from vla_ros.policies.manifest.files import PolicyFolder, open_policy
from vla_ros.policies.manifest.schema import (
    ImageDetails,
    InstructionDetails,
    NoiseDetails,
    StateDetails,
    TensorSpec,
)
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.run_limit import RunLimit

HELP = "check, show and time an exported policy"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How the policy is tried."""

    provider: str = setting(AUTO, "where its graphs run", choices=PROVIDERS)
    threads: int = setting(1, "threads on the CPU", ge=1, le=64)
    limit_s: float = setting(30.0, "a run that takes longer is ended", unit="s", ge=0.01, le=3600.0)
    instruction: str = setting("", "what to say to it; empty: a word that it knows")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is timed."""

    providers: str = setting(AUTO, "where to run, comma separated")
    threads: str = setting("1", "thread counts on the CPU, comma separated")
    repeats: int = setting(200, "calls of every graph", ge=1, le=10**6)
    beside: str = setting(
        "", "module:function that makes the same graphs in another runtime; see docs/policies.md"
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
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    for name, text, kind in (
        ("check", "verify files, graphs and outputs; 0 if all is in order", CheckOptions),
        ("show", "print what the manifest says", None),
        ("bench", "time every graph", BenchOptions),
    ):
        sub = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("policy", help="folder of the export, or its manifest.yaml")
        if kind is not None:
            add_options(sub.add_argument_group("options"), kind)


def run(namespace: argparse.Namespace) -> int:
    """Do what was asked for; 1 if a check fails."""
    match namespace.action:
        case "show":
            for line in describe(open_policy(namespace.policy)):
                say(line)
            return 0
        case "bench":
            return _bench(open_policy(namespace.policy), read_options(namespace, BenchOptions))
        case _:
            return _check(namespace.policy, read_options(namespace, CheckOptions))


def _check(path: str, options: CheckOptions) -> int:
    from vla_ros.policies.onnx.inspection import inspect_policy

    limit = RunLimit(options.limit_s)
    runtime = PolicyRuntime(
        session=SessionSettings(provider=options.provider, threads=options.threads),
        now_ns=time.monotonic_ns,
        guard=limit,
        load_guard=limit,
        report=lambda text: None,  # every graph is shown with where it runs, and why there
    )
    try:
        for found in inspect_policy(open_policy(path), runtime, options.instruction):
            say(f"ok    {found.what:<26}  {found.detail}")
    except VlaRosError as error:
        say(f"FAIL  {error}")
        return 1
    finally:
        limit.close()
    return 0


def describe(folder: PolicyFolder) -> Iterator[str]:
    """Yield the contract of a policy, line by line."""
    m = folder.manifest
    yield f"{m.name}  ({m.kind.value} policy, {folder.path})"
    if m.description:
        yield m.description
    yield ""
    yield f"good for    {m.max_age_s:g} s after the exposure"
    yield f"meant for   slow {m.rates.slow_hz:g} Hz, fast {m.rates.fast_hz:g} Hz"
    a = m.actions
    yield (
        f"rows        {a.rows} of {a.columns} columns, {a.dt_s * 1000:.1f} ms apart, "
        f"first after {a.first_row_s * 1000:.1f} ms"
    )
    yield (
        f"columns     position {a.position} (3, m), {a.rotation_format} {a.rotation}, "
        f"gripper {a.gripper} {a.gripper_range_m[0]:g} to {a.gripper_range_m[1]:g} m; "
        f"anchor: {a.anchor}"
    )
    abilities = ", ".join(f"{k} {v}" for k, v in asdict(m.abilities).items())
    yield f"abilities   {abilities}"
    yield f"statistics  sha256 {m.normalisation_sha256}"
    for graph in m.graphs.values():
        yield ""
        yield f"graph {graph.name}  ({graph.file}, sha256 {graph.sha256[:16]}...)"
        yield from _table(
            [
                (side, t.name, t.dtype, str(list(t.shape)), f"{t.role.value}{_details(t)}")
                for side, tensors in (("in", graph.inputs), ("out", graph.outputs))
                for t in tensors
            ]
        )
    if m.files:
        yield ""
        yield "other files"
        yield from _table([("", name, f"sha256 {digest}") for name, digest in m.files.items()])


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _details(tensor: TensorSpec) -> str:
    match tensor.details:
        case ImageDetails() as d:
            return f" of {', '.join(d.cameras)}; {d.resize}, at most {d.max_age_s:g} s old"
        case InstructionDetails() as d:
            return f" by {d.vocabulary} ({d.tokenizer})"
        case StateDetails() as d:
            return f": {', '.join(d.fields)}"
        case NoiseDetails() as d:
            return f", drawn per {d.draw}"
        case _:
            return f" from {tensor.source}" if tensor.source else ""


def _bench(folder: PolicyFolder, options: BenchOptions) -> int:
    from vla_ros.bench.policy import compare_graphs, load_peer, measure_graphs

    results: list[dict[str, object]] = []
    peer = load_peer(options.beside) if options.beside else None
    for settings in options.settings():
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
    if options.out:
        path = Path(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        say(f"written to {path}")
    return 0
