# SPDX-License-Identifier: Apache-2.0
"""Where graphs run: which execution provider, with which options, and what is tried in its place.

Options of providers: onnxruntime.ai, "TensorRT Execution Provider" and "CUDA Execution Provider".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.schema import GraphSpec

CPU, CUDA, TENSORRT = "cpu", "cuda", "tensorrt"
TENSORRT_ENGINE = "tensorrt_engine"  # without ONNX Runtime, see tensorrt_engine.py
AUTO = "auto"
PROVIDERS = (AUTO, TENSORRT, CUDA, CPU, TENSORRT_ENGINE)

_ORDER = (TENSORRT, CUDA, CPU)
_ORT_NAMES = {
    TENSORRT: "TensorrtExecutionProvider",
    CUDA: "CUDAExecutionProvider",
    CPU: "CPUExecutionProvider",
}
_MIB = 1 << 20

Options = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a graph is run."""

    provider: str = setting(
        AUTO, "where graphs run; auto: the first of tensorrt, cuda, cpu there is", choices=PROVIDERS
    )
    threads: int = setting(1, "threads of one operator on the CPU", ge=1, le=64)
    spin: bool = setting(False, "threads wait by spinning: quicker, but takes the CPU from others")
    warmup_runs: int = setting(2, "runs before the first that counts", ge=0, le=100)
    device_id: int = setting(0, "which GPU", ge=0, le=63)
    fp16: bool = setting(False, "TensorRT computes with 16-bit floats")
    cuda_graph: bool = setting(False, "capture the kernels once and replay them; only on the GPU")
    gpu_memory_mib: int = setting(
        0, "largest arena of the CUDA provider; 0: no limit", unit="MiB", ge=0, le=1 << 20
    )
    workspace_mib: int = setting(
        2048, "what TensorRT may use while it builds", unit="MiB", ge=16, le=1 << 20
    )
    optimisation_level: int = setting(3, "how hard TensorRT tries while it builds", ge=0, le=5)
    weights_by_pointer: bool = setting(
        False,
        "TensorRT is handed weights where they lie: what is larger than 2 GB does not fit into the "
        "message they travel in otherwise; from ONNX Runtime 1.23 and TensorRT 10.13 on. Set by "
        "itself for graphs with weights in files of their own",
    )
    engine_cache: str = setting("", "folder of built engines; empty: the user's cache")

    def __post_init__(self) -> None:
        check_fields(self)

    def cache_folder(self, graph: GraphSpec) -> Path:
        """Return where the engines of a graph go: a folder per content of its file.

        Engines and graphs are code of the device: only whoever runs this may write there.
        """
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        root = Path(self.engine_cache) if self.engine_cache else base / "vla_ros" / "engines"
        return root / f"{graph.sha256[:32]}{'-fp16' if self.fp16 else ''}"


@dataclass(frozen=True)
class Attempt:
    """One way to make a session: providers in order, each with its options."""

    provider: str
    providers: tuple[tuple[str, Options], ...]

    @property
    def ort_name(self) -> str:
        """What ONNX Runtime calls the provider."""
        return _ORT_NAMES[self.provider]


def attempts(
    settings: SessionSettings, graph: GraphSpec, available: Sequence[str]
) -> tuple[list[Attempt], list[str]]:
    """Return what to try, in order, and why what was preferred to it is not tried.

    Args:
        settings: what is wanted.
        graph: what is to be run.
        available: providers that ONNX Runtime was built with.

    Raises:
        ConfigError: if the provider asked for is not among them; the message names those that are.
    """
    wanted = _ORDER if settings.provider == AUTO else (settings.provider,)
    there = [name for name in _ORDER if _ORT_NAMES[name] in available]
    missing = [name for name in wanted if name not in there]
    if settings.provider != AUTO and missing:
        raise ConfigError(
            f"provider {settings.provider!r} is not available in this ONNX Runtime; "
            f"available: {', '.join(there) or 'none'}"
        )
    notes = [f"this ONNX Runtime is built without {' and '.join(missing)}"] if missing else []
    found = [
        Attempt(
            name,
            tuple(
                (_ORT_NAMES[helper], provider_options(helper, settings, graph))
                # What a provider cannot run goes to those after it.
                for helper in _ORDER[_ORDER.index(name) :]
                if helper in there
            ),
        )
        for name in wanted
        if name in there
    ]
    return found, notes


def provider_options(name: str, settings: SessionSettings, graph: GraphSpec) -> Options:
    """Return the options of a provider, as text, for one graph."""
    if name == TENSORRT:
        cache = str(settings.cache_folder(graph))
        options = {
            "device_id": str(settings.device_id),
            "trt_max_workspace_size": str(settings.workspace_mib * _MIB),
            "trt_builder_optimization_level": str(settings.optimisation_level),
            "trt_fp16_enable": _flag(settings.fp16),
            "trt_cuda_graph_enable": _flag(settings.cuda_graph and not graph.varies),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": cache,
        }
        if settings.weights_by_pointer:
            options["trt_load_user_initializer"] = "True"
        least, most = profile_shapes(graph)
        if most:
            edges = {"min": least, "opt": most, "max": most}
            options |= {f"trt_profile_{edge}_shapes": shapes for edge, shapes in edges.items()}
        return options
    if name == CUDA:
        options = {
            "device_id": str(settings.device_id),
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": "1" if settings.cuda_graph and not graph.varies else "0",
        }
        if settings.gpu_memory_mib:
            options["gpu_mem_limit"] = str(settings.gpu_memory_mib * _MIB)
        return options
    return {}


def profile_shapes(graph: GraphSpec) -> tuple[str, str]:
    """Return smallest and largest shapes of inputs that have names in place of sizes.

    In the form of TensorRT's profiles; empty where all sizes are numbers.
    """
    named = [t for t in graph.inputs if t.steps or isinstance(t.shape[0], str)]
    least, most = (
        ",".join(
            f"{t.name}:{'x'.join(map(str, size))}" for t, size in zip(named, sizes, strict=True)
        )
        for sizes in ([t.smallest for t in named], [t.size for t in named])
    )
    return least, most


def _flag(value: bool) -> str:
    return "True" if value else "False"
