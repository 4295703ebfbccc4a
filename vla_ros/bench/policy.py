# SPDX-License-Identifier: Apache-2.0
"""How long the graphs of an export take: per provider and thread count, beside another runtime."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.measurement import Measurement
from vla_ros.clock import NS_PER_MS
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import GraphSpec, Kind
from vla_ros.policies.onnx.feeds import Call, Feeds
from vla_ros.policies.onnx.inspection import some_instruction
from vla_ros.policies.onnx.providers import CPU, SessionSettings
from vla_ros.policies.onnx.rehearsal import NOW_NS, made_up_latent, made_up_observation
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.timing import PARTS

Tensors = Mapping[str, NDArray[np.generic]]
# Of a policy folder, a graph's name and a number of threads; returns what computes its outputs.
Peer = Callable[[Path, str, int], Callable[[Tensors], Tensors]]


@dataclass(frozen=True, kw_only=True)
class GraphTimes:
    """What one graph took on one provider [ms]."""

    graph: str
    provider: str
    threads: int
    n: int
    total_p50: float
    total_p99: float
    parts_p50: Mapping[str, float]


def measure_graphs(
    folder: PolicyFolder, settings: SessionSettings, repeats: int
) -> list[GraphTimes]:
    """Time every graph of a policy as the runtime calls it, checks of outputs included.

    Raises:
        ConfigError: if the provider is not available or refuses a graph.
    """
    runtime = PolicyRuntime(session=settings, now_ns=time.perf_counter_ns)
    times = []
    for graph, feeds in _rehearsed(folder, runtime):
        session = GraphSession(folder, graph.name, runtime)
        for _ in range(repeats):
            session.run(feeds)
        statistics = session.statistics
        times.append(
            GraphTimes(
                graph=graph.name,
                provider=session.provider,
                threads=settings.threads,
                n=len(statistics),
                total_p50=statistics.quantile_ms(0.5),
                total_p99=statistics.quantile_ms(0.99),
                parts_p50={part: statistics.quantile_ms(0.5, part) for part in PARTS},
            )
        )
    return times


def compare_graphs(
    folder: PolicyFolder, settings: SessionSettings, repeats: int, peer: Peer, peer_name: str
) -> list[Measurement]:
    """Time every graph beside another runtime, calls taking turns, and compare what comes out."""
    runtime = PolicyRuntime(session=settings, now_ns=time.perf_counter_ns)
    results = []
    for graph, feeds in _rehearsed(folder, runtime):
        session = GraphSession(folder, graph.name, runtime)
        other = peer(folder.path, graph.name, settings.threads)
        for _ in range(settings.warmup_runs):
            expected = other(feeds)
        ours: list[float] = []
        theirs: list[float] = []
        cpu: tuple[list[float], list[float]] = ([], [])  # tells computing from waiting for a core
        for _ in range(repeats):
            began_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
            outputs, _timing = session.run(feeds)
            between_ns, cpu_between_ns = time.perf_counter_ns(), time.process_time_ns()
            expected = other(feeds)
            theirs.append((time.perf_counter_ns() - between_ns) / NS_PER_MS)
            cpu[0].append((cpu_between_ns - cpu_ns) / NS_PER_MS)
            cpu[1].append((time.process_time_ns() - cpu_between_ns) / NS_PER_MS)
            ours.append((between_ns - began_ns) / NS_PER_MS)
        difference = max(
            float(np.abs(outputs[t.name].astype(float) - np.asarray(expected[t.name])).max())
            for t in graph.outputs
        )
        p50, p50_theirs = float(np.median(ours)), float(np.median(theirs))
        results.append(
            Measurement(
                name=f"policy.{graph.name}_onnx_vs_{peer_name}",
                ours=p50,
                alternative=p50_theirs,
                ratio=p50 / p50_theirs,
                unit="ms",
                n=repeats,
                what=f"{session.description}; outputs differ by at most {difference:.2g}; "
                f"CPU time {np.median(cpu[0]):.2f} against {np.median(cpu[1]):.2f} ms",
                difference=difference,
                ours_p99=float(np.quantile(ours, 0.99)),
                alternative_p99=float(np.quantile(theirs, 0.99)),
            )
        )
    return results


def load_peer(where: str) -> Peer:
    """Return the peer that ``module:function`` names: code of whoever asks for the comparison.

    Raises:
        ConfigError: if there is no such function.
    """
    module_name, _, function = where.partition(":")
    try:
        peer: Peer = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--beside must be module:function, got {where!r}: {error}") from error
    return peer


def _rehearsed(
    folder: PolicyFolder, runtime: PolicyRuntime
) -> list[tuple[GraphSpec, dict[str, NDArray[np.generic]]]]:
    """Return every graph with inputs for it; the latent is what ``slow`` makes of noise."""
    manifest = folder.manifest
    noise = np.random.default_rng(0)
    observation = made_up_observation(manifest, some_instruction(folder), noise)
    call = Call(observation=observation, now_ns=NOW_NS)
    if manifest.kind is Kind.SPLIT:
        settings = SessionSettings(provider=CPU, warmup_runs=0)
        slow = GraphSession(folder, "slow", replace(runtime, session=settings))
        tensors, _ = slow.run(Feeds(folder, slow.spec).make(call))
        call = replace(call, latent=made_up_latent(tensors))
    return [
        (graph, {name: value.copy() for name, value in Feeds(folder, graph).make(call).items()})
        for graph in manifest.graphs.values()
    ]
