# SPDX-License-Identifier: Apache-2.0
"""Everything that can be found out about an export without a robot, one finding after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_MS
from vla_ros.errors import PolicyError
from vla_ros.latency.codec import encoded_bytes
from vla_ros.policies.base import Tensors
from vla_ros.policies.instruction import ALL_GOALS
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import GraphSpec, InstructionDetails, Kind
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.contract import latent_schema_hash, model_hash
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.feeds import cameras_of, tokenizer_of
from vla_ros.policies.onnx.model_scan import scan_model
from vla_ros.policies.onnx.rehearsal import (
    NOW_NS,
    guided_request,
    made_up_latent,
    made_up_observation,
)
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxInstructionCheck, OnnxSlowPolicy
from vla_ros.policies.tokens import Tokenizer, WordTokenizer
from vla_ros.types import ActionChunk, Observation

_SEED = 0
_CACHE_DIFFERENCE = 0.01  # of the size of a latent: 16-bit floats of a GPU leave less


@dataclass(frozen=True)
class Found:
    """One thing that was looked at and is in order."""

    what: str
    detail: str


def inspect_policy(
    folder: PolicyFolder, runtime: PolicyRuntime, instruction: str = ""
) -> Iterator[Found]:
    """Look at files, graphs and what they compute; yield what is in order.

    Args:
        folder: the policy.
        runtime: where and how it runs.
        instruction: to try it with; empty: something that it understands.

    Raises:
        VlaRosError: at the first thing that is not in order, saying what.
    """
    manifest = folder.manifest
    yield Found(
        "manifest",
        f"{manifest.name}: {manifest.kind.value} policy of {len(manifest.all_graphs)} graphs, "
        f"{manifest.actions.rows} rows, {manifest.actions.dt_s * 1000:.1f} ms apart",
    )
    yield from _files(folder)
    instruction = instruction or some_instruction(folder)
    yield from _instructions(folder, instruction)
    if manifest.kind is Kind.SPLIT:
        yield from _split(folder, runtime, instruction)
    else:
        yield from _chunk(folder, runtime, instruction)


def some_instruction(folder: PolicyFolder) -> str:
    """Return something that can be said to a policy."""
    for tensor in folder.manifest.seeing.inputs:
        details = tensor.details
        if isinstance(details, InstructionDetails) and details.grammar == "pick_place":
            return ALL_GOALS[0].text
    for tokenizer in _tokenizers(folder):
        if isinstance(tokenizer, WordTokenizer) and tokenizer.words:
            return tokenizer.words[0]
    return "go"


def _tokenizers(folder: PolicyFolder) -> list[Tokenizer]:
    return [
        tokenizer_of(folder, tensor, tensor.details)
        for graph in folder.manifest.graphs.values()
        for tensor in graph.inputs
        if isinstance(tensor.details, InstructionDetails)
    ]


def _files(folder: PolicyFolder) -> Iterator[Found]:
    for name, stated in folder.manifest.all_files.items():
        size = folder.verify(name).stat().st_size
        yield Found(f"file {name}", f"{size} bytes, sha256 {stated[:16]}..., inside the folder")
    for graph in folder.manifest.all_graphs.values():
        found = scan_model(folder.read(graph.file), graph.file)
        where = ", ".join(sorted(found.locations)) or "the file itself"
        yield Found(
            f"weights of {graph.name}", f"in {where}; {len(found.operators)} kinds of operators"
        )
    unlisted = folder.unlisted()
    if unlisted:
        shown = ", ".join(unlisted[:3])
        yield Found("other files", f"{len(unlisted)} not in the manifest, never read: {shown}")


def _instructions(folder: PolicyFolder, instruction: str) -> Iterator[Found]:
    OnnxInstructionCheck(folder).check_instruction(instruction)
    for tokenizer in _tokenizers(folder):
        tokens = tokenizer.encode(instruction)
        known = f", {len(tokenizer.words)} words known" if hasattr(tokenizer, "words") else ""
        yield Found("instruction", f"{instruction!r} is {len(tokens)} tokens{known}")


def _graph(session: GraphSession) -> Found:
    spec = session.spec
    return Found(
        f"graph {spec.name}",
        f"{len(spec.inputs)} inputs, {len(spec.outputs)} outputs as in the manifest; "
        f"{session.description}",
    )


def _observations(folder: PolicyFolder, instruction: str) -> Iterator[tuple[str, Observation]]:
    manifest = folder.manifest
    yield "black images", made_up_observation(manifest, instruction)
    noise = np.random.default_rng(_SEED)
    yield "noise for images", made_up_observation(manifest, instruction, noise)


def _split(folder: PolicyFolder, runtime: PolicyRuntime, instruction: str) -> Iterator[Found]:
    slow = OnnxSlowPolicy(folder, runtime)
    yield _graph(slow.session)
    fast = OnnxFastPolicy(folder, runtime)
    yield _graph(fast.session)
    for what, observation in _observations(folder, instruction):
        tensors = slow.encode(observation)
        yield Found(f"latent of {what}", f"{_sizes(tensors)}, finite, {_took(slow.last_timing)}")
        chunk = fast.decode(made_up_latent(tensors), observation, NOW_NS)
        yield Found(f"rows of {what}", f"{_rows(chunk)}, {_took(fast.last_timing)}")
    if folder.manifest.abilities.denoising_steps:
        request = guided_request(observation, chunk, fast.capabilities)
        (guided,) = fast.decode_request(made_up_latent(tensors), request, NOW_NS)
        yield Found("guided rows", f"{_rows(guided)}, {_took(fast.last_timing)}")
    if folder.manifest.cache is not None:
        yield from _cache(folder, runtime, slow, observation)
    yield Found(
        "latent",
        f"{encoded_bytes(tensors)} bytes in the ring, schema "
        f"{latent_schema_hash(folder.manifest):016x}, weights {model_hash(folder):016x}",
    )


def _cache(
    folder: PolicyFolder, runtime: PolicyRuntime, slow: OnnxSlowPolicy, observation: Observation
) -> Iterator[Found]:
    """Try a cache on a scene of which a part changes, beside the slow half without."""
    policy = CachedOnnxSlowPolicy(folder, runtime)
    yield _graph(policy.cells)
    yield _graph(policy.fuse)
    largest = 0.0
    for seen in (observation, _partly_black(observation, policy.cells.spec)):
        found, right = policy.encode(seen), slow.encode(seen)
        largest = max(largest, *(_difference(found[name], right[name]) for name in right))
    if not largest <= _CACHE_DIFFERENCE:
        raise PolicyError(
            f"latents with cache differ from those without by {largest:.2g} of their size, at most "
            f"{_CACHE_DIFFERENCE:g} allowed: the cache is not that of graph slow"
        )
    yield Found(
        "latent with cache",
        f"differs by at most {largest:.1e} of its size; {100 * policy.last.reuse_ratio:.0f} % of "
        f"the cells known after a change, {_took(policy.last_timing)}",
    )


def _partly_black(observation: Observation, graph: GraphSpec) -> Observation:
    """Return it with a black square in the middle of what a graph sees."""
    (camera,) = cameras_of(graph)
    frame = observation.frames[camera]
    rgb = frame.rgb.copy()
    height, width = rgb.shape[:2]
    rgb[height // 2 : height // 2 + height // 16, width // 2 : width // 2 + width // 16] = 0
    return replace(observation, frames={**observation.frames, camera: replace(frame, rgb=rgb)})


def _difference(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Return the largest difference of two tensors as a share of the largest value."""
    x, y = a.astype(float), b.astype(float)
    return float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-9))


def _chunk(folder: PolicyFolder, runtime: PolicyRuntime, instruction: str) -> Iterator[Found]:
    policy = OnnxChunkPolicy(folder, runtime)
    yield _graph(policy.session)
    for what, observation in _observations(folder, instruction):
        chunk = policy.infer_now(observation)
        yield Found(f"rows of {what}", f"{_rows(chunk)}, {_took(policy.last_timing)}")
    if folder.manifest.abilities.denoising_steps:
        (guided,) = policy.infer(guided_request(observation, chunk, policy.capabilities))
        yield Found("guided rows", f"{_rows(guided)}, {_took(policy.last_timing)}")


def _sizes(tensors: Tensors) -> str:
    return ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in tensors.items())


def _rows(chunk: ActionChunk) -> str:
    dt_s = 1e-9 * chunk.dt_ns
    steps_m = np.linalg.norm(np.diff(chunk.positions, axis=0), axis=1)
    fastest = float(steps_m.max() / dt_s) if len(steps_m) else 0.0
    low, high = chunk.gripper_width_m.min(), chunk.gripper_width_m.max()
    return (
        f"{chunk.horizon} rows, at most {fastest:.2f} m/s between them, "
        f"gripper {low:.3f} to {high:.3f} m"
    )


def _took(timing: object) -> str:
    total_ns = getattr(timing, "total_ns", 0)
    return f"{total_ns / NS_PER_MS:.2f} ms"
