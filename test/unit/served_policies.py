# SPDX-License-Identifier: Apache-2.0
"""Policies served by a process of their own: ``served_policies.py <kind> <address>``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from composition_samples import parents, table_of
from policy_stubs import DECODERS, BlobSlow, ImageActionPolicy, observations

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.base import Tensors
from vla_ros.policies.conformance.execution import execute_split, execute_whole
from vla_ros.policies.conformance.subject import SplitBackend, Subject, WholeBackend
from vla_ros.policies.remote.client import RemoteChunkPolicy, RemoteFastPolicy, RemoteSlowPolicy
from vla_ros.policies.remote.link import is_service, listen
from vla_ros.policies.remote.server import PolicyServer, serve
from vla_ros.policies.remote.service_address import parse_service
from vla_ros.types import ActionChunk, Observation

READY = "ready"
SMALL_MS, LARGE_MS = 8, 150
SLOW_CALL_S = 0.3
PARENTS = ("obstacle", "goal")  # flow policies that know one of these
SEED = 3


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
    if kind in PARENTS:
        return PolicyServer(flow=parents(table_of(SEED), SEED)[PARENTS.index(kind)], now_ns=clock)
    if kind == "late":
        return PolicyServer(chunk=SlowWhole(), now_ns=clock)
    subject = DECODERS[kind]
    if isinstance(subject, WholeBackend):
        return PolicyServer(chunk=subject.make(), now_ns=clock)
    assert isinstance(subject, SplitBackend)
    return PolicyServer(slow=subject.make_slow(), fast=subject.make_fast(), now_ns=clock)


def remote(local: Subject, address: str) -> Subject:
    """The backend behind its server; every connection has instances of its own."""
    if isinstance(local, WholeBackend):
        return WholeBackend(f"remote {local.name}", lambda: RemoteChunkPolicy(address))
    return SplitBackend(
        f"remote {local.name}",
        lambda: RemoteSlowPolicy(address),
        lambda: RemoteFastPolicy(address, limit_s=10.0),
    )


def rows_of(subject: Subject) -> list[np.ndarray]:
    """What the executor commits."""
    if isinstance(subject, WholeBackend):
        result = execute_whole(subject.make(), observations())
    else:
        result = execute_split(subject.make_slow(), subject.make_fast(), observations())
    assert result.refusals == []
    return [np.hstack([s.positions, s.quats_xyzw, s.twists_base]) for s in result.segments]


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


def limit_resources() -> None:
    """Two cores and 2 GiB for a server: a stand-in for a small computer, not a measurement."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def say_ready() -> None:
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()


def main(kind: str, address: str) -> None:
    if is_service(address):
        from vla_ros.nodes.policy_service import serve_by_service

        # Its middleware sets more address space aside than it uses: no limit here.
        serve_by_service(server_of(kind), parse_service(address), lambda: False, say_ready)
        return
    limit_resources()
    with listen(address) as listener:
        say_ready()
        serve(lambda: server_of(kind), listener, lambda: False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
