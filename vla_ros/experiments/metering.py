# SPDX-License-Identifier: Apache-2.0
"""Policies that count what their calls cost. The clock is handed in: one of CPU time.

Images are looked at before the clock is read: in virtual time the first look draws them, which no
policy is to blame for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.base import Tensors, TimesItself
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.slow import OnnxSlowPolicy
from vla_ros.types import ActionChunk, Latent, Observation


class Meter:
    """Adds up what is spent.

    Args:
        now_ns: reads a clock [ns]; policies that say where their time goes must read the same one.

    Attributes:
        spent_ns: by whole calls: inputs made, graphs run, outputs checked and made rows.
        graph_ns: of it, by the graphs alone.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.spent_ns = self.graph_ns = 0

    @contextmanager
    def running(self, policy: TimesItself, observation: Observation) -> Iterator[None]:
        """Count what is done inside; the images of ``observation`` are there before."""
        _ = observation.capture_oldest_ns
        began_ns = self._now_ns()
        try:
            yield
        finally:
            self.spent_ns += self._now_ns() - began_ns
            timing = policy.last_timing
            self.graph_ns += 0 if timing is None else timing.compute_ns


class MeteredSlow:
    """A slow half whose calls are counted."""

    def __init__(self, policy: OnnxSlowPolicy, meter: Meter) -> None:
        self._policy, self._meter = policy, meter
        self.name, self.max_age_s = policy.name, policy.max_age_s
        self.latent_schema_hash, self.model_hash = policy.latent_schema_hash, policy.model_hash
        self.latent_bytes = policy.latent_bytes

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._policy.check_instruction(instruction)

    def reset(self) -> None:
        """Forget everything seen."""
        self._policy.reset()

    def encode(self, observation: Observation) -> Tensors:
        """Return the named tensors of the latent."""
        with self._meter.running(self._policy, observation):
            return self._policy.encode(observation)


class MeteredFast:
    """A fast half whose calls are counted."""

    def __init__(self, policy: OnnxFastPolicy, meter: Meter) -> None:
        self._policy, self._meter = policy, meter
        self.name, self.capabilities = policy.name, policy.capabilities
        self.chunk_rows, self.chunk_dt_ns = policy.chunk_rows, policy.chunk_dt_ns
        self.latent_schema_hash, self.model_hash = policy.latent_schema_hash, policy.model_hash
        self.latent_bytes = policy.latent_bytes

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the best chunk."""
        with self._meter.running(self._policy, observation):
            return self._policy.decode(latent, observation, now_ns)

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return all candidates, tied to the request's prefix if it has one."""
        with self._meter.running(self._policy, request.observation):
            return self._policy.decode_request(latent, request, now_ns)


class MeteredChunk:
    """A policy in one piece whose calls are counted."""

    def __init__(self, policy: OnnxChunkPolicy, meter: Meter) -> None:
        self._policy, self._meter = policy, meter
        self.name, self.capabilities = policy.name, policy.capabilities
        self.max_age_s = policy.max_age_s

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._policy.check_instruction(instruction)

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, best first."""
        with self._meter.running(self._policy, request.observation):
            return self._policy.infer(request)
