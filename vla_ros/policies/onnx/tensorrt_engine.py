# SPDX-License-Identifier: Apache-2.0
"""A graph as a TensorRT engine, without ONNX Runtime: packages tensorrt and cuda-python.

The engine is built from the verified ONNX file, for this GPU and this TensorRT, and kept in the
user's cache; engines are never taken from a policy's folder, for they are compiled code. A batch
with a name gets a profile of 1. Runs cannot be cancelled: a result that comes too late is thrown
away, and one that never comes costs the process (``RunLimit.on_stuck``).

Source: TensorRT 10 developer guide, Python API; checked against no GPU here (marker ``gpu``).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.manifest.schema import GraphSpec
from vla_ros.policies.onnx.backend import TensorFacts, Tensors
from vla_ros.policies.onnx.providers import TENSORRT_ENGINE, SessionSettings

Array = NDArray[np.generic]

_MIB = 1 << 20


class UncancellableRun:
    """A run that goes on whatever happens; its result is dropped by who cancelled it."""

    def cancel(self) -> None:
        """Do nothing: the GPU cannot be called back."""


class TensorRtBackend:
    """One graph as one engine with one stream, inputs and outputs in pinned memory.

    Args:
        graph: what the manifest says of it.
        model: the bytes of the ONNX file.
        path: of the file, beside which its external data lies.
        settings: device, precision, cache.

    Raises:
        ConfigError: if a package is missing or the engine cannot be built.
    """

    provider = TENSORRT_ENGINE

    def __init__(
        self, graph: GraphSpec, model: bytes, path: Path, settings: SessionSettings
    ) -> None:
        if settings.cuda_graph:
            raise ConfigError("cuda_graph needs provider tensorrt or cuda, not tensorrt_engine")
        if graph.varies:
            raise ConfigError(
                f"{graph.file} is run on parts of any size: it needs provider tensorrt, cuda or "
                "cpu, not tensorrt_engine"
            )
        self._trt, self._cuda = _import_packages()
        self._graph = graph
        self._ok(self._cuda.cudaSetDevice(settings.device_id))
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        plan = self._plan_file(settings)
        if not plan.exists():
            _write(plan, self._build(logger, model, path, settings))
        self._engine = self._load(logger, plan)
        self._context = self._engine.create_execution_context()
        (self._stream,) = self._ok(self._cuda.cudaStreamCreate())
        for tensor in graph.inputs:
            if isinstance(tensor.shape[0], str):
                self._context.set_input_shape(tensor.name, tensor.size)
        self._buffers: dict[str, tuple[Array, int]] = {}
        known = {fact.name for fact in self.inputs + self.outputs}
        for tensor in graph.inputs + graph.outputs:
            if tensor.name not in known:  # the session says so, by name
                continue
            (host,) = self._ok(self._cuda.cudaMallocHost(tensor.n_bytes))
            (device,) = self._ok(self._cuda.cudaMalloc(tensor.n_bytes))
            memory = (ctypes.c_uint8 * tensor.n_bytes).from_address(int(host))
            view = np.ndarray(tensor.size, dtype=tensor.dtype, buffer=memoryview(memory))
            self._buffers[tensor.name] = (view, int(device))
            self._context.set_tensor_address(tensor.name, int(device))
        self.description = f"TensorRT {self._trt.__version__}, engine {plan.name}"

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        """The inputs of the engine; a named batch is 1."""
        return self._facts(self._trt.TensorIOMode.INPUT)

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        """The outputs of the engine; a named batch is 1."""
        return self._facts(self._trt.TensorIOMode.OUTPUT)

    def new_run(self) -> UncancellableRun:
        """Return the handle of a run to come."""
        return UncancellableRun()

    def run(self, feeds: Tensors, handle: UncancellableRun) -> dict[str, Array]:
        """Compute the outputs.

        Raises:
            PolicyError: if CUDA or TensorRT fails.
        """
        cuda, copy = self._cuda, self._cuda.cudaMemcpyKind
        for tensor in self._graph.inputs:
            view, device = self._buffers[tensor.name]
            np.copyto(view, feeds[tensor.name], casting="no")
            to_device = copy.cudaMemcpyHostToDevice
            self._ok(
                cuda.cudaMemcpyAsync(device, view.ctypes.data, view.nbytes, to_device, self._stream)
            )
        if not self._context.execute_async_v3(int(self._stream)):
            raise PolicyError(f"{self._graph.file}: TensorRT refused to run")
        for tensor in self._graph.outputs:
            view, device = self._buffers[tensor.name]
            to_host = copy.cudaMemcpyDeviceToHost
            self._ok(
                cuda.cudaMemcpyAsync(view.ctypes.data, device, view.nbytes, to_host, self._stream)
            )
        self._ok(cuda.cudaStreamSynchronize(self._stream))
        return {t.name: self._buffers[t.name][0].copy() for t in self._graph.outputs}

    def _facts(self, mode: Any) -> tuple[TensorFacts, ...]:
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        return tuple(
            TensorFacts(
                name,
                np.dtype(self._trt.nptype(engine.get_tensor_dtype(name))).name,
                tuple(1 if d == -1 else int(d) for d in engine.get_tensor_shape(name)),
            )
            for name in names
            if engine.get_tensor_mode(name) == mode
        )

    def _plan_file(self, settings: SessionSettings) -> Path:
        """Where the engine lies: by content of the graph, precision, TensorRT and GPU."""
        (properties,) = self._ok(self._cuda.cudaGetDeviceProperties(settings.device_id))
        gpu = f"sm{properties.major}{properties.minor}"
        folder = settings.cache_folder(self._graph)
        return folder / f"trt{self._trt.__version__}-{gpu}-o{settings.optimisation_level}.plan"

    def _build(self, logger: Any, model: bytes, path: Path, settings: SessionSettings) -> Any:
        trt = self._trt
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model, str(path)):
            errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise ConfigError(f"TensorRT cannot read {self._graph.file}: {errors}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * _MIB)
        config.builder_optimization_level = settings.optimisation_level
        if settings.fp16:
            if not hasattr(trt.BuilderFlag, "FP16"):
                raise ConfigError(
                    f"TensorRT {trt.__version__} takes its types from the graph: export it in "
                    "16-bit floats in place of fp16"
                )
            config.set_flag(trt.BuilderFlag.FP16)
        profile = builder.create_optimization_profile()
        for tensor in self._graph.inputs:
            if isinstance(tensor.shape[0], str):
                profile.set_shape(tensor.name, tensor.size, tensor.size, tensor.size)
        config.add_optimization_profile(profile)
        timings = settings.cache_folder(self._graph) / "timing.cache"
        known = timings.read_bytes() if timings.exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ConfigError(f"TensorRT cannot build an engine of {self._graph.file}")
        _write(timings, config.get_timing_cache().serialize())
        return engine

    def _load(self, logger: Any, plan: Path) -> Any:
        # Mapped: an engine of gigabytes, read first, would be in memory twice.
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            engine = self._trt.Runtime(logger).deserialize_cuda_engine(data)
        if engine is None:
            raise ConfigError(f"TensorRT cannot load {plan}: remove it to build it anew")
        return engine

    def _ok(self, result: Any) -> tuple[Any, ...]:
        """Return the values of a CUDA call, which come after its status."""
        status, *values = result
        if int(status) != 0:
            raise PolicyError(f"{self._graph.file}: CUDA says {status}")
        return tuple(values)


def _import_packages() -> tuple[Any, Any]:
    try:
        import tensorrt
        from cuda.bindings import runtime
    except ImportError as error:
        raise ConfigError(
            "provider tensorrt_engine needs the packages tensorrt and cuda-python: "
            f"{error}; tensorrt, cuda and cpu run in ONNX Runtime"
        ) from error
    return tensorrt, runtime


def _write(path: Path, data: Any) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)
