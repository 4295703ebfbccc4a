# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime beside PyTorch eager on the CPU: the same weights, inputs and number of threads.

Calls take turns in one process, so that a machine that is busy for a while is so for both. PyTorch
runs the functions that the graphs were exported from, without gradients.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_ros.bench.measurement import Measurement
from vla_ros.bench.policy import Peer, Tensors, compare_graphs
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning.checkpoint import load_checkpoint
from vla_ros.learning.export import (
    LARGEST_DIFFERENCE,
    export_policy,
    graph_specs,
    read_weights,
    save_untrained,
)
from vla_ros.learning.model_config import ModelConfig
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.providers import CPU, SessionSettings

# Largest ratio of medians that is aimed at.
TARGETS = {"slow": 1.0, "fast": 0.5}
_NEEDED = ("torch", "onnx", "onnxscript", "onnxruntime")


def why_not() -> str:
    """Return which package this comparison lacks here, empty if none."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    return f"without {', '.join(missing)}; pip install -r requirements/train.in" if missing else ""


def torch_peer(checkpoint: Path) -> Peer:
    """Return what makes PyTorch functions of a checkpoint, for ``compare_graphs``.

    Raises:
        ConfigError: if the checkpoint is damaged, or has no such graph.
    """
    weights, config, _ = read_weights(load_checkpoint(checkpoint))

    def make(folder: Path, graph: str, threads: int) -> Callable[[Tensors], Tensors]:
        import torch

        specs = {spec.name: spec for spec in graph_specs(weights, config)}
        if graph not in specs:
            raise ConfigError(f"the checkpoint has {', '.join(specs)}, not {graph}")
        spec = specs[graph]
        torch.set_num_threads(threads)

        def compute(feeds: Tensors) -> Tensors:
            with torch.inference_mode():
                inputs = [torch.from_numpy(np.asarray(feeds[name])) for name in spec.inputs]
                outputs = spec.function(*inputs)
                return {n: t.numpy() for n, t in zip(spec.outputs, outputs, strict=True)}

        return compute

    return make


def measure_torch(
    repeats: int,
    policy: Path | None = None,
    checkpoint: Path | None = None,
    threads: int = 1,
    config: ModelConfig | None = None,
) -> list[Measurement]:
    """Return the time of each graph [ms] beside PyTorch eager.

    Args:
        repeats: calls of each, after those that warm up.
        policy: folder of an export.
        checkpoint: what it was exported from; without both, a model of the same sizes is drawn at
            random and exported: times do not depend on what weights say.
        threads: of both.
        config: sizes of the model that is drawn.

    Raises:
        ConfigError: if a package is missing.
        PolicyError: if outputs differ by more than 1e-4.
    """
    lacks = why_not()
    if lacks:
        raise ConfigError(lacks)
    if policy is not None and checkpoint is not None:
        return _measure(repeats, policy, checkpoint, threads, "trained weights")
    with tempfile.TemporaryDirectory(prefix="vla_ros_torch_") as folder:
        checkpoint, policy = Path(folder) / "checkpoint.npz", Path(folder) / "policy"
        save_untrained(checkpoint, config)
        export_policy(checkpoint, policy, "untrained")
        return _measure(repeats, policy, checkpoint, threads, "weights drawn at random")


def _measure(
    repeats: int, policy: Path, checkpoint: Path, threads: int, which: str
) -> list[Measurement]:
    import torch

    before = torch.get_num_threads()
    settings = SessionSettings(provider=CPU, threads=threads, warmup_runs=10)
    try:
        results = compare_graphs(
            open_policy(policy), settings, repeats, torch_peer(checkpoint), "torch"
        )
    finally:
        torch.set_num_threads(before)
    for result in results:
        if not result.difference <= LARGEST_DIFFERENCE:
            raise PolicyError(
                f"{result.name}: outputs differ by {result.difference:.2g}, at most "
                f"{LARGEST_DIFFERENCE:.0e} allowed: is it the export of this checkpoint?"
            )
    return [
        replace(
            result,
            target=TARGETS.get(name, 0.0),
            what=f"{result.what}; {which}; alternative: PyTorch {torch.__version__} eager, "
            f"{threads} thread{'s' if threads > 1 else ''}, calls taking turns",
        )
        for result in results
        for name in [result.name.removeprefix("policy.").removesuffix("_onnx_vs_torch")]
    ]
