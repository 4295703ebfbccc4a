# SPDX-License-Identifier: Apache-2.0
"""A graph that can be run: checked against its manifest at load, and its outputs at every call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError, PolicyTimeoutError
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import GraphSpec, TensorSpec
from vla_ros.policies.onnx.backend import Backend, TensorFacts, Tensors
from vla_ros.policies.onnx.model_scan import scan_model
from vla_ros.policies.onnx.ort_backend import OrtBackend
from vla_ros.policies.onnx.providers import TENSORRT_ENGINE, SessionSettings
from vla_ros.policies.run_limit import Guard, unlimited
from vla_ros.policies.timing import PARTS, CallTiming, TimingStatistics

Array = NDArray[np.generic]

# Carries a device's compiled code in the model or names a file of it; neither can be checked.
_REFUSED_OPERATORS = frozenset({"EPContext"})


def _no_clock() -> int:
    return 0


def _cannot_be_cancelled() -> None:
    """Do nothing: a session under way cannot be called back."""


def _log(text: str) -> None:
    logging.getLogger(__name__).warning(text)


@dataclass(frozen=True, kw_only=True)
class PolicyRuntime:
    """What a policy is run with; the edges hand it in.

    Attributes:
        session: provider, threads.
        now_ns: reads the clock [ns]; without one, all timings are 0.
        guard: limits runs.
        load_guard: limits runs that warm up; the first one may take long.
        open_guard: limits the making of a session, which optimises the graph or compiles it for a
            device. It cannot be cancelled: one that hangs costs the process
            (``RunLimit.on_stuck``).
        report: told of every fallback.
        cache: run slow halves with their cache, and when it may be reused (``load_slow``); None:
            without.
    """

    session: SessionSettings = field(default_factory=SessionSettings)
    now_ns: Callable[[], int] = _no_clock
    guard: Guard = unlimited
    load_guard: Guard = unlimited
    open_guard: Guard = unlimited
    report: Callable[[str], None] = _log
    cache: FeatureCacheConfig | None = None


class GraphSession:
    """One graph of a policy, ready to run.

    Guarantees: names, types and shapes are those of the manifest, of the graph as of every output,
    and all numbers that come out are finite. A graph whose tensors differ in size from call to call
    has been tried at the largest and at the smallest.

    Args:
        folder: the policy.
        name: of the graph.
        runtime: where and how it runs.

    Raises:
        ConfigError: if a file is not what the manifest says, the graph differs from it, or it
            cannot be run where it should.
        PolicyTimeoutError: if making the session or warming it up took longer than its limit.

    Thread-safety: calls from several threads wait for each other.
    """

    def __init__(
        self, folder: PolicyFolder, name: str, runtime: PolicyRuntime | None = None
    ) -> None:
        self._runtime = runtime or PolicyRuntime()
        self.spec = folder.manifest.all_graphs[name]
        self._what = f"{folder.manifest.name}/{name}"
        self._lock = threading.Lock()
        with self._runtime.open_guard(f"making a session of {self._what}", _cannot_be_cancelled):
            self._backend = _make_backend(folder, self.spec, self._runtime)
        compare_graph(self.spec, self._backend.inputs, self._backend.outputs)
        self.statistics = TimingStatistics()
        zeros = {tensor.name: tensor.zeros() for tensor in self.spec.inputs}
        for _ in range(self._runtime.session.warmup_runs):
            self._execute(zeros, self._runtime.load_guard)
        if self.spec.varies:
            self._try_smallest()

    @property
    def provider(self) -> str:
        """Where it runs."""
        return self._backend.provider

    @property
    def description(self) -> str:
        """Where it runs, for people, and what is not as was asked for."""
        return self._backend.description

    def diagnostics(self) -> dict[str, str]:
        """Return where the graph runs and how long its calls take, for people."""
        values = {f"{self.spec.name}.runs_on": self.description}
        if len(self.statistics):
            for part in PARTS:
                values[f"{self.spec.name}.{part}_ms_p50"] = (
                    f"{self.statistics.quantile_ms(0.5, part):.3f}"
                )
            values[f"{self.spec.name}.total_ms_p99"] = f"{self.statistics.quantile_ms(0.99):.3f}"
        return values

    def run(self, feeds: Tensors) -> tuple[dict[str, Array], CallTiming]:
        """Compute the outputs by name.

        Raises:
            PolicyError: if an input does not fit, the run fails, or an output is not what the
                manifest says or not finite.
            PolicyTimeoutError: if it took longer than its limit.
        """
        outputs, timing = self._execute(feeds, self._runtime.guard)
        began_ns = self._runtime.now_ns()
        for tensor in self.spec.outputs:
            value = outputs[tensor.name]
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise PolicyError(f"{self._what}: output {tensor.name} is not finite")
        timing = timing.around(post_ns=self._runtime.now_ns() - began_ns)
        self.statistics.add(timing)
        return outputs, timing

    def _try_smallest(self) -> None:
        inputs, outputs = self.spec.inputs, self.spec.outputs
        zeros = {tensor.name: np.zeros(tensor.smallest, tensor.dtype) for tensor in inputs}
        try:
            found, _ = self._execute(zeros, self._runtime.load_guard)
        except PolicyTimeoutError:
            raise
        except PolicyError as error:
            raise ConfigError(
                f"{self.spec.file} takes no inputs of the least size: {error}"
            ) from error
        for tensor in outputs:
            shape = found[tensor.name].shape
            if shape != tensor.smallest:
                raise ConfigError(
                    f"{self.spec.file}: of the smallest inputs {tensor.name} is {list(shape)}, "
                    f"the manifest says {list(tensor.smallest)}"
                )

    def _execute(self, feeds: Tensors, guard: Guard) -> tuple[dict[str, Array], CallTiming]:
        now_ns = self._runtime.now_ns
        began_ns = now_ns()
        self._check(feeds, self.spec.inputs, "input")
        waits_ns = now_ns()
        with self._lock:
            starts_ns = now_ns()
            run = self._backend.new_run()
            with guard(self._what, run.cancel):
                outputs = self._backend.run(feeds, run)
            ends_ns = now_ns()
        self._check(outputs, self.spec.outputs, "output")
        return outputs, CallTiming(
            pre_ns=waits_ns - began_ns,
            queue_ns=starts_ns - waits_ns,
            compute_ns=ends_ns - starts_ns,
            post_ns=now_ns() - ends_ns,
        )

    def _check(self, values: Tensors, tensors: Iterable[TensorSpec], side: str) -> None:
        for tensor in tensors:
            value = values.get(tensor.name)
            if value is None:
                raise PolicyError(f"{self._what}: {side} {tensor.name} is missing")
            if not tensor.fits(value.shape) or value.dtype != tensor.dtype:
                most = " at most" if tensor.steps else ""
                raise PolicyError(
                    f"{self._what}: {side} {tensor.name} must be {tensor.dtype}{most} "
                    f"{tensor.size}, got {value.dtype} {value.shape}"
                )


def compare_graph(
    spec: GraphSpec, inputs: Iterable[TensorFacts], outputs: Iterable[TensorFacts]
) -> None:
    """Check that a graph is what its manifest says.

    Raises:
        ConfigError: naming the tensor, what the graph has and what the manifest says.
    """
    for side, tensors, found in (
        ("input", spec.inputs, {t.name: t for t in inputs}),
        ("output", spec.outputs, {t.name: t for t in outputs}),
    ):
        stated = {tensor.name for tensor in tensors}
        for name in found:
            if name not in stated:
                raise ConfigError(f"{spec.file} has an {side} {name!r} that the manifest lacks")
        for tensor in tensors:
            facts = found.get(tensor.name)
            if facts is None:
                raise ConfigError(
                    f"{spec.file} has no {side} {tensor.name!r}; it has {', '.join(found)}"
                )
            shape = _sizes(tensor, facts)
            if facts.dtype != tensor.dtype or shape != tensor.size:
                raise ConfigError(
                    f"{spec.file}: {side} {tensor.name} is {facts.dtype} {list(facts.shape)}, "
                    f"the manifest says {tensor.dtype} {list(tensor.shape)}"
                    + (f" with steps {list(tensor.steps)}" if tensor.steps else "")
                )


def _sizes(tensor: TensorSpec, facts: TensorFacts) -> tuple[int | str, ...]:
    """Return the sizes of a graph's tensor, with those of the manifest in place of names."""
    # A named batch has been set to 1; of some outputs the name remains.
    sizes = [1 if d == tensor.shape[0] else d for d in facts.shape]
    for i, step in enumerate(tensor.steps[: len(sizes)]):
        if step:  # what differs from call to call has a name in the graph
            sizes[i] = tensor.size[i] if isinstance(sizes[i], str) else f"always {sizes[i]}"
    return tuple(sizes)


def read_graph(folder: PolicyFolder, graph: GraphSpec) -> bytes:
    """Return the bytes of a graph after looking at all that it refers to.

    Raises:
        ConfigError: if it is not the file of the manifest, or refers to a file that is not one.
    """
    model = folder.read(graph.file)
    found = scan_model(model, graph.file)
    refused = sorted(found.operators & _REFUSED_OPERATORS)
    if refused:
        raise ConfigError(f"{graph.file} has an operator {refused[0]}, which cannot be checked")
    beside = PurePosixPath(graph.file).parent
    for location in sorted(found.locations):
        name = str(beside / location)
        if PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts:
            raise ConfigError(f"{graph.file} keeps weights in {location!r}, outside its folder")
        if name not in folder.manifest.files:
            raise ConfigError(
                f"{graph.file} keeps weights in {location!r}, which is not under files"
            )
        folder.verify(name)
    return model


def _make_backend(folder: PolicyFolder, graph: GraphSpec, runtime: PolicyRuntime) -> Backend:
    model = read_graph(folder, graph)
    data_folder = (folder.path / graph.file).parent
    if runtime.session.provider == TENSORRT_ENGINE:
        from vla_ros.policies.onnx.tensorrt_engine import TensorRtBackend

        return TensorRtBackend(graph, model, folder.path / graph.file, runtime.session)
    settings = runtime.session
    if scan_model(model, graph.file).locations:
        settings = replace(settings, weights_by_pointer=True)
    return OrtBackend(graph, model, data_folder, settings, runtime.report)
