# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: sessions, devices, buffers. The package is imported when a session is made."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.manifest.schema import GraphSpec, TensorSpec
from vla_ros.policies.onnx.backend import TensorFacts, Tensors
from vla_ros.policies.onnx.providers import CPU, TENSORRT, Attempt, SessionSettings, attempts

Array = NDArray[np.generic]

_ERRORS_ONLY = 3
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


def import_onnxruntime() -> Any:
    """Return the package.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"ONNX policies need the package onnxruntime, or onnxruntime-gpu: {error}"
        ) from error
    return onnxruntime


class OrtRun:
    """One run of a session."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def cancel(self) -> None:
        """Let the run fail before its next operator."""
        self.options.terminate = True


class OrtBackend:
    """One graph in one session of ONNX Runtime.

    Args:
        graph: what the manifest says of it.
        model: the bytes of the file.
        data_folder: where its external data lies.
        settings: provider and options.
        report: told why a provider that was preferred is not used.

    Raises:
        ConfigError: if no provider takes the graph, or the one asked for does not.
    """

    def __init__(
        self,
        graph: GraphSpec,
        model: bytes,
        data_folder: Path,
        settings: SessionSettings,
        report: Callable[[str], None],
    ) -> None:
        self._ort = import_onnxruntime()
        self._graph = graph
        possible, notes = attempts(settings, graph, self._ort.get_available_providers())
        chosen, self._session = self._first_that_works(
            possible, notes, model, data_folder, settings
        )
        self.provider = chosen.provider
        self._outputs = [tensor.name for tensor in graph.outputs]
        self._binding: _DeviceBinding | None = None
        # What differs in size from call to call has no fixed address: ONNX Runtime copies it.
        if chosen.provider != CPU and not graph.varies:
            self._binding = _DeviceBinding(self._ort, self._session, graph, settings.device_id)
        elsewhere = operators_elsewhere(self._session, chosen.ort_name)
        if elsewhere:
            notes.append(elsewhere)
        where = f"ONNX Runtime {self._ort.__version__} on {chosen.provider}"
        if chosen.provider == CPU:
            where += f", {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        if self._binding is not None and not self._binding.is_pinned:
            notes.append("inputs are not in pinned memory")
        self.description = "; ".join([where, *notes])
        if notes:
            report(f"{graph.file} runs on {chosen.provider}: {'; '.join(notes)}")

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        """The inputs as ONNX Runtime reports them."""
        return _facts(self._session.get_inputs())

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        """The outputs as ONNX Runtime reports them."""
        return _facts(self._session.get_outputs())

    def new_run(self) -> OrtRun:
        """Return the handle of a run to come."""
        options = self._ort.RunOptions()
        options.log_severity_level = _ERRORS_ONLY + 1  # a run that is ended is no error to print
        return OrtRun(options)

    def run(self, feeds: Tensors, handle: OrtRun) -> dict[str, Array]:
        """Compute the outputs.

        Raises:
            PolicyError: whatever ONNX Runtime raises.
        """
        try:
            if self._binding is not None:
                return self._binding.run(feeds, handle.options)
            values = self._session.run(self._outputs, dict(feeds), handle.options)
        except Exception as error:  # its classes derive from Exception alone
            raise PolicyError(f"{self._graph.file}: {_one_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _first_that_works(
        self,
        possible: Sequence[Attempt],
        notes: list[str],
        model: bytes,
        data_folder: Path,
        settings: SessionSettings,
    ) -> tuple[Attempt, Any]:
        for attempt in possible:
            try:
                session = self._open(attempt, model, data_folder, settings)
            except Exception as error:  # as above
                notes.append(f"{attempt.provider} refuses it: {_one_line(error)}")
                continue
            # A library that cannot be loaded leaves the provider out, without an error.
            if attempt.ort_name in session.get_providers():
                return attempt, session
            notes.append(f"{attempt.provider} did not come up (are its libraries installed?)")
        raise ConfigError(f"{self._graph.file} cannot be run: {'; '.join(notes)}")

    def _open(
        self, attempt: Attempt, model: bytes, data_folder: Path, settings: SessionSettings
    ) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        spin = "1" if settings.spin else "0"
        for key, value in (
            ("session.intra_op.allow_spinning", spin),
            ("session.inter_op.allow_spinning", spin),
            # Not the flatbuffer format that the bytes could claim to be.
            ("session.load_model_format", "ONNX"),
            ("session.record_ep_graph_assignment_info", "1"),
            ("session.model_external_initializers_file_folder_path", str(data_folder)),
        ):
            options.add_session_config_entry(key, value)
        for tensor in self._graph.inputs:
            if isinstance(tensor.shape[0], str):
                options.add_free_dimension_override_by_name(tensor.shape[0], 1)
        if attempt.provider == TENSORRT:
            settings.cache_folder(self._graph).mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._ort.InferenceSession(
            model,
            options,
            providers=list(attempt.providers),
            enable_fallback=0,
            read_config_from_model=0,
        )


class _DeviceBinding:
    """Inputs and outputs at fixed addresses on a device, as CUDA graphs need them.

    Inputs go through pinned memory of the host where this ONNX Runtime offers it: then copies need
    no detour.
    """

    def __init__(
        self, ort: Any, session: Any, graph: GraphSpec, device_id: int, device: str = "cuda"
    ) -> None:
        self._session = session
        self._names = [tensor.name for tensor in graph.outputs]
        self._binding = session.io_binding()
        pinned = _pinned_memory(ort, device_id) if device == "cuda" else None
        self.is_pinned = pinned is not None
        self._inputs: dict[str, tuple[Any, Array, Any]] = {}
        for tensor in graph.inputs:
            value = ort.OrtValue.ortvalue_from_shape_and_type(
                tensor.size, np.dtype(tensor.dtype).type, device, device_id
            )
            self._binding.bind_ortvalue_input(tensor.name, value)
            staging, owner = _host_buffer(ort, tensor, pinned)
            self._inputs[tensor.name] = (value, staging, owner)
        for tensor in graph.outputs:
            value = ort.OrtValue.ortvalue_from_shape_and_type(
                tensor.size, np.dtype(tensor.dtype).type, device, device_id
            )
            self._binding.bind_ortvalue_output(tensor.name, value)

    def run(self, feeds: Tensors, options: Any) -> dict[str, Array]:
        """Copy in, compute, copy out."""
        for name, (value, staging, _) in self._inputs.items():
            np.copyto(staging, feeds[name], casting="no")
            value.update_inplace(staging)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, options)
        self._binding.synchronize_outputs()
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))


def _host_buffer(ort: Any, tensor: TensorSpec, pinned: Any) -> tuple[Array, Any]:
    """Return an array to fill, and what owns its memory."""
    if pinned is None:
        return tensor.zeros(), None
    owner = ort.OrtValue.ortvalue_from_shape_and_type(
        tensor.size, np.dtype(tensor.dtype).type, memory_info=pinned
    )
    memory = (ctypes.c_uint8 * tensor.n_bytes).from_address(owner.data_ptr())
    return np.ndarray(tensor.size, dtype=tensor.dtype, buffer=memoryview(memory)), owner


def _pinned_memory(ort: Any, device_id: int) -> Any:
    """Return what allocates pinned memory for a GPU; None where this ONNX Runtime has no such."""
    if not hasattr(ort, "get_ep_devices") or not hasattr(ort, "OrtDeviceMemoryType"):
        return None
    devices = [d for d in ort.get_ep_devices() if d.ep_name == "CUDAExecutionProvider"]
    if device_id >= len(devices):
        return None
    try:
        return devices[device_id].memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    except Exception:  # not every build registers such an allocator; plain memory does as well
        return None


def operators_elsewhere(session: Any, wanted: str) -> str:
    """Say how many operators a session runs on another provider than the one wanted, if any.

    What a GPU cannot run is given to the CPU without a word, and every such operator costs copies.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ""
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    elsewhere = [f"{n} on {name}" for name, n in counts.items() if name != wanted]
    return f"of {counts.total()} operators {', '.join(elsewhere)}" if elsewhere else ""


def _facts(nodes: Sequence[Any]) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(
            node.name,
            _DTYPES.get(node.type, node.type),
            tuple(d if isinstance(d, int) else str(d) for d in node.shape),
        )
        for node in nodes
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else f"{text[:397]}..."
