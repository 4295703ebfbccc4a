# SPDX-License-Identifier: Apache-2.0
"""Policies served by a process of their own: ``served_policies.py <kind> <address>``."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policy_stubs import (
    DECODERS,
    BlobSlow,
    ImageActionPolicy,
)

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.base import Tensors
from vla_ros.policies.conformance.subject import SplitBackend, WholeBackend
from vla_ros.policies.remote.link import listen
from vla_ros.policies.remote.server import PolicyServer, serve
from vla_ros.types import ActionChunk, Observation

READY = "ready"
SMALL_MS, LARGE_MS = 8, 150
SLOW_CALL_S = 0.3


class NamedSlow(BlobSlow):
    """Says which of two models it is, after as long as that one takes."""

    def __init__(self, name: str, duration_ms: float) -> None:
        super().__init__()
        self.name, self._duration_ms = name, duration_ms

    def encode(self, observation: Observation) -> Tensors:
        time.sleep(1e-3 * self._duration_ms)
        is_hard = observation.instruction == "hard"
        succeeds = self.name == "large" or not is_hard
        return {
            "succeeds": np.array([succeeds]),
            "uncertainty": np.array([0.9 if is_hard else 0.1]),
        }


class Echo(BlobSlow):
    """Costs nothing: what a call takes is the way to it and back."""

    def encode(self, observation: Observation) -> Tensors:
        return {"latent": np.zeros((1, 49, 128), np.float32)}


class SlowWhole(ImageActionPolicy):
    """Takes longer than anybody waits."""

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        time.sleep(SLOW_CALL_S)
        return super().infer(request)


def server_of(kind: str) -> PolicyServer:
    clock = time.monotonic_ns
    if kind == "small":
        return PolicyServer(slow=NamedSlow("small", SMALL_MS), now_ns=clock)
    if kind == "large":
        return PolicyServer(slow=NamedSlow("large", LARGE_MS), now_ns=clock)
    if kind == "echo":
        return PolicyServer(slow=Echo(), now_ns=clock)
    if kind == "late":
        return PolicyServer(chunk=SlowWhole(), now_ns=clock)
    subject = DECODERS[kind]
    if isinstance(subject, WholeBackend):
        return PolicyServer(chunk=subject.make(), now_ns=clock)
    assert isinstance(subject, SplitBackend)
    return PolicyServer(slow=subject.make_slow(), fast=subject.make_fast(), now_ns=clock)


@dataclass
class ServerProcess:
    """A server that can be killed and started again."""

    kind: str
    address: str
    process: subprocess.Popen[str] | None = None

    def start(self) -> ServerProcess:
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.kind, self.address],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == READY
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for it to be gone."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.kill()


if __name__ == "__main__":
    with listen(sys.argv[2]) as listener:
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
        serve(lambda: server_of(sys.argv[1]), listener, lambda: False)
