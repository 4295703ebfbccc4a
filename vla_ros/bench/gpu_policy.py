# SPDX-License-Identifier: Apache-2.0
"""A large policy on every backend there is: execution providers of ONNX Runtime, PyTorch eager.

Backends come one after the other in one process, each with both halves loaded; what a GPU has of
memory need hold only one of them. The same weights and inputs go into all.
"""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.large_policy import forward, stored
from vla_ros.bench.large_sizes import LargePolicy, parameters
from vla_ros.bench.together import Rates, Together, run_together
from vla_ros.errors import ConfigError, VlaRosError
from vla_ros.policies.manifest.files import PolicyFolder, open_policy
from vla_ros.policies.onnx.ort_backend import import_onnxruntime
from vla_ros.policies.onnx.providers import CUDA, TENSORRT, SessionSettings
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime

TORCH = "torch"
Feeds = dict[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.generic]]
_ORT_GPU = {TENSORRT: "TensorrtExecutionProvider", CUDA: "CUDAExecutionProvider"}


def gpu_backends() -> tuple[list[str], str]:
    """Return the backends that a GPU can be used by here, and why others cannot."""
    available = import_onnxruntime().get_available_providers()
    found = [name for name, known in _ORT_GPU.items() if known in available]
    notes = [f"ONNX Runtime without {n}" for n in _ORT_GPU if n not in found]
    if importlib.util.find_spec("torch") is None:
        notes.append("PyTorch is not installed")
    elif _torch_device() == "cuda":
        found.append(TORCH)
    else:
        notes.append("PyTorch sees no CUDA device")
    return found, "; ".join(notes)


def made_up_feeds(folder: PolicyFolder, seed: int = 0) -> dict[str, Feeds]:
    """Return inputs for each graph, of plausible size."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Feeds] = {}
    for graph in folder.manifest.graphs.values():
        feeds[graph.name] = {
            t.name: random.integers(0, 256 if t.dtype == "uint8" else 8, t.size).astype(t.dtype)
            if "int" in t.dtype
            else random.standard_normal(t.size).astype(t.dtype)
            for t in graph.inputs
        }
    return feeds


def measure_large(
    path: Path,
    size: LargePolicy,
    backends: Sequence[str],
    rates: Rates,
    threads: int = 1,
    report: Callable[[str], None] = lambda text: None,
) -> list[Together]:
    """Return what each backend did; one that fails says why and does not end the others.

    Args:
        path: folder of ``write_large_policy``.
        size: what was written.
        backends: of cpu, cuda, tensorrt, torch, in order; the first one's outputs are compared
            with.
        rates: how often, how long.
        threads: on the CPU.
        report: told what is under way.

    Raises:
        ConfigError: if the folder has a policy of another size.
    """
    folder = open_policy(path)
    for half in ("slow", "fast"):
        found, wanted = (path / f"{half}.bin").stat().st_size, 2 * parameters(size, half)
        if found != wanted:
            raise ConfigError(f"{path} has a policy of another size: {found} bytes, not {wanted}")
    feeds = made_up_feeds(folder)
    first: dict[str, Outputs] = {}
    results = []
    for backend in backends:
        report(f"{backend}: loading")
        try:
            # By a function, so that nothing of this backend is left when the next one is loaded.
            result, outputs = _measured(backend, folder, size, feeds, threads, rates, first, report)
            results.append(result)
            first = first or outputs
        except Exception as error:  # drivers raise what they like; the table says what
            if not isinstance(error, VlaRosError | RuntimeError | OSError):
                raise
            text = " ".join(str(error).split())[:300]
            results.append(Together(backend=backend, problem=f"{type(error).__name__}: {text}"))
        gc.collect()
    return results


def _measured(
    backend: str,
    folder: PolicyFolder,
    size: LargePolicy,
    feeds: Mapping[str, Feeds],
    threads: int,
    rates: Rates,
    first: Mapping[str, Outputs],
    report: Callable[[str], None],
) -> tuple[Together, dict[str, Outputs]]:
    with _loaded(backend, folder, size, feeds, threads) as (where, slow, fast):
        outputs = {"slow": slow(), "fast": fast()}
        difference = _difference(outputs, first or outputs)
        report(f"{backend}: running")
        return run_together(backend, where, slow, fast, rates, difference), outputs


@contextmanager
def _loaded(
    backend: str,
    folder: PolicyFolder,
    size: LargePolicy,
    feeds: Mapping[str, Feeds],
    threads: int,
) -> Iterator[tuple[str, Callable[[], Outputs], Callable[[], Outputs]]]:
    """Give where a backend runs, and its halves with their inputs; free both afterwards."""
    if backend == TORCH:
        with _torch(folder.path, size, feeds, threads) as loaded:
            yield loaded
        return
    settings = SessionSettings(provider=backend, threads=threads, fp16=backend == TENSORRT)
    runtime = PolicyRuntime(session=settings, now_ns=time.perf_counter_ns, report=lambda text: None)
    sessions = {half: GraphSession(folder, half, runtime) for half in ("slow", "fast")}
    yield (
        "; ".join(f"{half} {session.description}" for half, session in sessions.items()),
        lambda: sessions["slow"].run(feeds["slow"])[0],
        lambda: sessions["fast"].run(feeds["fast"])[0],
    )


@contextmanager
def _torch(
    path: Path, size: LargePolicy, feeds: Mapping[str, Feeds], threads: int
) -> Iterator[tuple[str, Callable[[], Outputs], Callable[[], Outputs]]]:
    import torch

    device = _torch_device()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    calls = {}
    for half, name in (("slow", "latent"), ("fast", "actions")):
        weights = {
            n: torch.from_numpy(np.array(v)).to(device) for n, v in stored(path, size, half).items()
        }
        calls[half] = _torch_call(forward(size, half, weights, device), name, feeds[half], device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{threads} threads"
    try:
        yield f"PyTorch {torch.__version__} eager on {name}", calls["slow"], calls["fast"]
    finally:
        torch.set_num_threads(before)
        if device == "cuda":
            calls.clear()
            gc.collect()
            torch.cuda.empty_cache()


def _torch_call(
    function: Callable[..., Any], name: str, feeds: Feeds, device: str
) -> Callable[[], Outputs]:
    import torch

    # A stream of its own: on a common one the fast half would stand in line behind the slow one.
    cuda: Any = torch.cuda
    stream = cuda.Stream() if device == "cuda" else None

    def call() -> Outputs:
        with torch.inference_mode():
            inputs = {n: torch.from_numpy(np.asarray(v)) for n, v in feeds.items()}
            if stream is None:
                return {name: function(**inputs).numpy()}
            with cuda.stream(stream):
                return {name: function(**inputs).cpu().numpy()}

    return call


def _torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _difference(outputs: Mapping[str, Outputs], first: Mapping[str, Outputs]) -> float:
    """Return the largest difference to the first backend's outputs."""
    return max(
        float(np.abs(np.asarray(v, float) - np.asarray(first[half][n], float)).max())
        for half, values in outputs.items()
        for n, v in values.items()
    )
