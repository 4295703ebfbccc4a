# SPDX-License-Identifier: Apache-2.0
"""Writes a policy with a flow head as ONNX graphs: chunks in one piece, and one denoising step.

``chunk`` samples candidates; beside them it hands out what the expert made of images, words and
state, so that ``velocity`` is the small head alone.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.learning.checkpoint import Checkpoint
from vla_ros.learning.expert import run_expert
from vla_ros.learning.export import export_and_compare, read_weights, weights_of
from vla_ros.learning.flow_config import FlowConfig
from vla_ros.learning.flow_head import (
    MEAN,
    SCALE,
    SPREAD,
    Told,
    flow_shapes,
    sample,
    seen_by_flow,
    to_actions,
    to_model,
    told_of,
    velocity,
)
from vla_ros.learning.flow_training import FROZEN
from vla_ros.learning.graph_spec import GraphSpec
from vla_ros.learning.manifest import (
    ACTIONS,
    MAX_AGE_S,
    VOCABULARY_FILE,
    describe_tensors,
    normalisation_sha256,
)
from vla_ros.learning.model import done_of, slow_half, small_wrist
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.ops import images_to_float
from vla_ros.learning.parameters import Arrays, check_arrays, to_tensors
from vla_ros.learning.relative_rows import ACTION_SIZE, CHUNK_ROWS
from vla_ros.policies.manifest.write import write_manifest

if TYPE_CHECKING:
    from torch import Tensor

_ABOUT = (
    "Puts a named cube into a named bowl; a flow policy in one piece, for strategies that guide "
    "its denoising, continue a prefix or compare candidates; trained in simulation."
)
_ROWS = (CHUNK_ROWS, ACTION_SIZE)
# The last rows of a chunk scatter most. A chunk that would come when few others are left of it is
# worth less than one that is waited for at rest: decision 0008.
EXECUTION_ROWS = 12
_SEEN = ("expert_rows", "spread", "condition")  # what the velocity stands on, see ``Told``


def export_flow(checkpoint: Checkpoint, folder: Path, name: str) -> dict[str, float]:
    """Write a policy with a flow head into a folder.

    Returns:
        The largest difference to PyTorch of each graph.

    Raises:
        ConfigError: if the checkpoint is damaged or not of this model.
        PolicyError: if a graph differs from PyTorch by more than 1e-4.
    """
    head, flow = _read_head(checkpoint)
    frozen = {n: v for n, v in checkpoint.arrays.items() if n != f"{FROZEN}:{SPREAD}"}
    policy = Checkpoint(frozen, checkpoint.step, checkpoint.settings)
    weights, config, words = read_weights(policy, FROZEN)
    folder.mkdir(parents=True, exist_ok=True)
    differences = {
        spec.name: export_and_compare(spec, config, folder)
        for spec in flow_graphs({**weights, **head}, config, flow)
    }
    (folder / VOCABULARY_FILE).write_text(words.to_json(), encoding="utf-8")
    write_manifest(folder, describe_flow(name, config, flow))
    return differences


def flow_graphs(weights: Arrays, config: ModelConfig, flow: FlowConfig) -> tuple[GraphSpec, ...]:
    """Return the graphs: ``chunk`` and ``velocity``."""
    import torch

    p = to_tensors(weights, trained=False)

    def chunk(image: Tensor, tokens: Tensor, state: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        latent = slow_half(p, config, image, tokens)
        wrist = images_to_float(small_wrist(image))
        out = run_expert(p, config, latent, 0.0 * state[:, :1], state, wrist)
        told = told_of(p, to_model(out.actions), seen_by_flow(out, state))
        n = flow.candidates
        rows = sample(p, flow, noise.reshape(n, *_ROWS), told.repeated(n))
        # The expert's rows leave in SI units: a micrometre is a micrometre in the comparison.
        seen = (out.actions, told.spread, told.condition)
        return to_actions(rows).reshape(noise.shape), done_of(out), *seen

    def step(
        flow_rows: Tensor,
        flow_time: Tensor,
        prefix_rows: Tensor,
        cotangent: Tensor,
        expert_rows: Tensor,
        spread: Tensor,
        condition: Tensor,
    ) -> tuple[Tensor, ...]:
        told = Told(to_model(expert_rows), spread, condition)

        def of(x: Tensor) -> Tensor:
            return velocity(p, x, flow_time, prefix_rows, told)

        found, pull_back, *_ = torch.func.vjp(of, flow_rows)
        return found, pull_back(cotangent)[0]

    return (
        GraphSpec(
            "chunk",
            ("image", "tokens", "state", "noise"),
            ("actions", "done", *_SEEN),
            chunk,
            {"noise": lambda random: _normal(random, *_noise_size(flow))},
        ),
        GraphSpec(
            "velocity",
            ("flow_rows", "flow_time", "prefix_rows", "cotangent", *_SEEN),
            ("velocity", "vjp"),
            step,
            {
                "flow_rows": lambda random: _normal(random, *_ROWS),
                "flow_time": lambda random: random.uniform(0, 0.9, (1, 1)).astype(np.float32),
                "prefix_rows": lambda random: random.integers(0, flow.prefix_rows_max, (1, 1)),
                "cotangent": lambda random: _normal(random, *_ROWS),
                "expert_rows": lambda random: 0.05 * _normal(random, *_ROWS),
                "spread": lambda random: random.uniform(0.01, 1, (1, *_ROWS)).astype(np.float32),
                "condition": lambda random: np.tanh(_normal(random, flow.condition)),
            },
            is_derived=True,
        ),
    )


def describe_flow(name: str, config: ModelConfig, flow: FlowConfig) -> dict[str, Any]:
    """Return what the manifest says, hashes apart."""
    known = describe_tensors(config)
    sizes = (_ROWS, _ROWS, (flow.condition,))
    seen = {part: _tensor("latent", size) for part, size in zip(_SEEN, sizes, strict=True)}
    rows = _noise_size(flow)
    return {
        "name": name,
        "kind": "chunk",
        "description": _ABOUT,
        "max_age_s": MAX_AGE_S,
        "normalisation_sha256": normalisation_sha256(),
        "graphs": {
            "chunk": {
                "file": "chunk.onnx",
                "inputs": {
                    **{part: known["chunk", part] for part in ("image", "tokens", "state")},
                    "noise": _tensor("noise", rows),
                },
                "outputs": {
                    "actions": _tensor("actions", rows),
                    "done": known["chunk", "done"],
                    **seen,
                },
            },
            "velocity": {
                "file": "velocity.onnx",
                "inputs": {
                    "flow_rows": _tensor("flow_rows", _ROWS),
                    "flow_time": _tensor("flow_time", (1,)),
                    "prefix_rows": _tensor("prefix_rows", (1,), "int64"),
                    "cotangent": _tensor("cotangent", _ROWS),
                    **seen,
                },
                "outputs": {
                    "velocity": _tensor("velocity", _ROWS),
                    "vjp": _tensor("vjp", _ROWS),
                },
            },
        },
        "actions": asdict(replace(ACTIONS, execution_rows=EXECUTION_ROWS)),
        "abilities": {
            "prefix_rows_max": flow.prefix_rows_max,
            "denoising_steps": flow.denoising_steps,
            "vjp": True,
            "candidates": flow.candidates,
        },
        "model_space": {"mean": list(MEAN), "scale": list(SCALE)},
        "rates": {"slow_hz": 10.0, "fast_hz": 30.0},
        "files": [VOCABULARY_FILE],
    }


def _read_head(checkpoint: Checkpoint) -> tuple[Arrays, FlowConfig]:
    """Return the averaged weights of the head, ``SPREAD`` among them, and its sizes."""
    try:
        flow = FlowConfig(**checkpoint.settings["flow"])
        config = ModelConfig(**checkpoint.settings["model"])
        spread = {SPREAD: checkpoint.arrays[f"{FROZEN}:{SPREAD}"]}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the checkpoint does not say what was trained: {error}") from error
    head = weights_of(checkpoint, "average") | spread
    check_arrays(head, flow_shapes(config, flow) | {SPREAD: _ROWS})
    return head, flow


def _noise_size(flow: FlowConfig) -> tuple[int, ...]:
    return (flow.candidates, *_ROWS) if flow.candidates > 1 else _ROWS


def _normal(random: np.random.Generator, *size: int) -> np.ndarray:
    return random.standard_normal((1, *size)).astype(np.float32)


def _tensor(role: str, shape: tuple[int, ...], dtype: str = "float32") -> dict[str, Any]:
    return {"role": role, "dtype": dtype, "shape": [1, *shape]}
