# SPDX-License-Identifier: Apache-2.0
"""Writes a model as ONNX graphs: slow half, fast half, and both in one for comparison.

Normalisation is inside the graphs: they take pixels, token numbers and SI units.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.learning.cache_export import cache_specs
from vla_ros.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla_ros.learning.graph_spec import GraphSpec
from vla_ros.learning.manifest import (
    CACHE_FOLDER,
    TOLD_UP_TO_S,
    VOCABULARY_FILE,
    write_manifest,
)
from vla_ros.learning.model import (
    fast_half,
    initial_weights,
    model_shapes,
    slow_half,
    small_wrist,
)
from vla_ros.learning.model_config import N_VIEWS, ModelConfig
from vla_ros.learning.parameters import Arrays, check_arrays, to_tensors
from vla_ros.learning.state_vector import STATE_CENTRE, STATE_SCALE, STATE_SIZE
from vla_ros.learning.views import SIDE_PX, WRIST_SHAPE
from vla_ros.learning.vocabulary import MAX_TOKENS, Vocabulary, default_vocabulary
from vla_ros.policies.manifest.schema import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

OPSET = 18
LARGEST_DIFFERENCE = 1e-4
_CASES = 8
_ABOUT = "Puts a named cube into a named bowl, from two cameras and words; trained in simulation."
_ABOUT_WHOLE = "Both halves in one graph, for comparison: every chunk waits for the trunk."

Inputs = dict[str, NDArray[Any]]


def graph_specs(weights: Arrays, config: ModelConfig) -> tuple[GraphSpec, ...]:
    """Return the graphs of a model: its halves, and both in one whose latent is always fresh."""
    p = to_tensors(weights, trained=False)

    def slow(image: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        return (slow_half(p, config, image, tokens),)

    def fast(latent: Tensor, age: Tensor, state: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        return fast_half(p, config, latent, age, state, image)

    def chunk(image: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        latent = slow_half(p, config, image, tokens)
        return fast_half(p, config, latent, 0.0 * state[:, :1], state, small_wrist(image))

    outputs = ("actions", "done")
    return (
        GraphSpec("slow", ("image", "tokens"), ("latent",), slow),
        GraphSpec("fast", ("latent", "latent_age_s", "state", "image"), outputs, fast),
        GraphSpec("chunk", ("image", "tokens", "state"), outputs, chunk),
    )


def sample_inputs(spec: GraphSpec, config: ModelConfig, seed: int) -> Inputs:
    """Return made-up inputs of plausible size for a graph."""
    random = np.random.default_rng([seed, 41])
    small = (1, *WRIST_SHAPE, 3)
    centre, scale = np.array(STATE_CENTRE), np.array(STATE_SCALE)
    pixels = random.integers(0, 256, (1, N_VIEWS, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    # The same name means different images: whole ones, or a small one to the fast half.
    is_fast = "latent" in spec.inputs
    known: Inputs = {
        "image": random.integers(0, 256, small, dtype=np.uint8) if is_fast else pixels,
        "tokens": random.integers(0, config.vocabulary, (1, MAX_TOKENS)),
        "latent": random.normal(size=(1, config.tokens, config.token_dim)).astype(np.float32),
        "latent_age_s": random.uniform(0.0, 4.0, (1, 1)).astype(np.float32),
        "state": (centre + scale * random.normal(size=(1, STATE_SIZE))).astype(np.float32),
    }
    known |= {name: draw(random) for name, draw in spec.drawn.items()}
    return {name: known[name] for name in spec.inputs}


def export_graph(spec: GraphSpec, config: ModelConfig, folder: Path) -> Path:
    """Write one graph and return its file."""
    import torch

    # It warns of packages that nothing here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    inputs = sample_inputs(spec, config, 0)
    samples = tuple(torch.from_numpy(inputs[name]) for name in spec.inputs)
    with warnings.catch_warnings():
        # The exporter uses a type that PyTorch itself deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            _module(spec, samples),
            samples,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            # One per argument of forward, which takes all inputs as one.
            dynamic_shapes=None if spec.dynamic_shapes is None else (spec.dynamic_shapes(),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise PolicyError(f"PyTorch exported nothing for {spec.name}")
    path = folder / spec.file
    program.save(path, external_data=False)
    path.write_bytes(_without_traces(path.read_bytes()))
    return path


def largest_difference(spec: GraphSpec, config: ModelConfig, path: Path) -> float:
    """Return the largest difference between graph and PyTorch over some made-up inputs."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for seed in range(_CASES):
        inputs = sample_inputs(spec, config, seed)
        with torch.no_grad():
            right = spec.function(*(torch.from_numpy(inputs[name]) for name in spec.inputs))
        found: Sequence[Any] = session.run(list(spec.outputs), inputs)
        for a, b in zip(found, right, strict=True):
            largest = max(largest, float(np.abs(np.asarray(a) - b.numpy()).max()))
    return largest


def export_policy(
    checkpoint: Path, folder: Path, name: str, told_up_to_s: float = TOLD_UP_TO_S
) -> dict[str, float]:
    """Write a trained policy: its halves into ``folder``, the slow one also as a cache needs it.

    Both in one, for comparison, go into ``folder/monolithic``. Of latents older than
    ``told_up_to_s`` the fast half is not told the age.

    Returns:
        The largest difference to PyTorch of each graph.

    Raises:
        ConfigError: if the checkpoint is damaged or not of this model.
        PolicyError: if a graph differs from PyTorch by more than 1e-4.
    """
    weights, config, words = read_weights(load_checkpoint(checkpoint))
    differences = {}
    whole, cache = folder / "monolithic", folder / CACHE_FOLDER
    for where in (folder, whole, cache):
        where.mkdir(parents=True, exist_ok=True)
    for where in (folder, whole):
        (where / VOCABULARY_FILE).write_text(words.to_json(), encoding="utf-8")
    for spec in graph_specs(weights, config):
        where = whole if spec.name == "chunk" else folder
        differences[spec.name] = export_and_compare(spec, config, where)
    for spec in cache_specs(weights, config):
        differences[spec.name] = export_and_compare(spec, config, cache)
    write_manifest(
        folder,
        name,
        Kind.SPLIT,
        ("slow", "fast"),
        config,
        _ABOUT,
        has_cache=True,
        told_up_to_s=told_up_to_s,
    )
    write_manifest(whole, f"{name}-monolithic", Kind.CHUNK, ("chunk",), config, _ABOUT_WHOLE)
    return differences


def export_and_compare(spec: GraphSpec, config: ModelConfig, folder: Path) -> float:
    """Write one graph and return its largest difference to PyTorch.

    Raises:
        PolicyError: if it is more than 1e-4.
    """
    path = export_graph(spec, config, folder)
    difference = largest_difference(spec, config, path)
    if not difference <= LARGEST_DIFFERENCE:
        raise PolicyError(
            f"{path.name} differs from PyTorch by {difference:.2e}, "
            f"at most {LARGEST_DIFFERENCE:.0e} allowed"
        )
    return difference


def read_weights(
    checkpoint: Checkpoint, group: str = "average"
) -> tuple[Arrays, ModelConfig, Vocabulary]:
    """Return a policy's averaged weights, their sizes and the words.

    Args:
        checkpoint: of a training.
        group: where the weights are; of a flow head's: "frozen".

    Raises:
        ConfigError: if they are not there or not those of the model.
    """
    try:
        config = ModelConfig(**checkpoint.settings["model"])
        words = Vocabulary(tuple(checkpoint.settings["words"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the checkpoint does not say what was trained: {error}") from error
    weights = weights_of(checkpoint, group)
    check_arrays(weights, model_shapes(config))
    return weights, config, words


def weights_of(checkpoint: Checkpoint, group: str) -> Arrays:
    """Return the arrays of a group by their names in the model."""
    prefix = f"{group}:"
    return {
        name.removeprefix(prefix): values
        for name, values in checkpoint.arrays.items()
        if name.startswith(prefix)
    }


def save_untrained(path: Path, config: ModelConfig | None = None, seed: int = 0) -> None:
    """Write a checkpoint of a model with weights drawn at random, by default of the usual sizes."""
    config = config or ModelConfig()
    arrays = {f"average:{n}": v for n, v in initial_weights(config, seed).items()}
    settings = {"model": asdict(config), "words": list(default_vocabulary().words)}
    save_checkpoint(path, Checkpoint(arrays=dict(arrays), step=0, settings=settings))


def _module(spec: GraphSpec, samples: tuple[Tensor, ...]) -> torch.nn.Module:
    """Return the function as what the exporter asks for."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    if spec.is_derived:
        traced: torch.nn.Module = make_fx(spec.function)(*samples)
        return traced.eval()

    class Graph(torch.nn.Module):  # type: ignore[misc, unused-ignore]  # no types without torch
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            return spec.function(*inputs)

    return Graph().eval()


def _without_traces(model: bytes) -> bytes:
    """Drop what the exporter notes about the machine it ran on: stack traces with file names."""
    import onnx

    graph = onnx.load_from_string(model)
    graph.producer_version = ""
    del graph.metadata_props[:]
    graph.doc_string = graph.graph.doc_string = ""
    del graph.graph.metadata_props[:]
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for function in graph.functions:
        function.doc_string = ""
        del function.metadata_props[:]
    _share_equal(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def _share_equal(graph: Any) -> None:
    """Keep one of the constants that are equal: steps of an unrolled loop have copies of them."""
    kept: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    for tensor in graph.initializer:
        name, tensor.name = tensor.name, ""
        first = kept.setdefault(tensor.SerializeToString(deterministic=True), name)
        tensor.name = name
        if first != name:
            instead[name] = first
    outputs = {value.name for value in graph.output}
    for name in instead.keys() & outputs:
        del instead[name]
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
    left = [tensor for tensor in graph.initializer if tensor.name not in instead]
    del graph.initializer[:]
    graph.initializer.extend(left)
