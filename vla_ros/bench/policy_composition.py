# SPDX-License-Identifier: Apache-2.0
"""What it costs per tick to compose two parents that live in other processes.

Started as ``python -m vla_ros.bench.policy_composition <address> <seed>`` it is one of them.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vla_ros.bench.measurement import Measurement
from vla_ros.bench.policy_hooks import POLICY, compare, flow_for_bench, request_for_bench
from vla_ros.bench.policy_transport import serve_at, server_process
from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.policies.composition.composed_flow import ComposedFlow
from vla_ros.policies.remote.flow_client import RemoteFlow
from vla_ros.policies.remote.server import PolicyServer

_CALLS = 200


def measure_composition(repeats: int) -> list[Measurement]:
    """Return the time of one chunk of two parents behind sockets, beside two in this process."""
    here = ComposedFlow(flow_for_bench(0), flow_for_bench(1))
    with (
        tempfile.TemporaryDirectory(prefix="vla_ros_composition_") as folder,
        server_process(__name__, f"unix:{Path(folder) / 'a'}", "0"),
        server_process(__name__, f"unix:{Path(folder) / 'b'}", "1"),
    ):
        a, b = (RemoteFlow(f"unix:{Path(folder) / name}", limit_s=10.0) for name in "ab")
        there = ComposedFlow(a, b)
        ours, alternative = _requests(), _requests()
        result = compare(
            "policy.composition_remote",
            lambda: guided_denoise(there, next(ours)),
            lambda: guided_denoise(here, next(alternative)),
            max(min(repeats, _CALLS), 10),
            "a chunk of two policies, each in a process of its own behind a socket, asked together "
            "at every step; the image goes there once per chunk; alternative: both in this "
            f"process, {POLICY}",
        )
    return [result]


def _requests() -> Iterator[InferenceRequest]:
    """Requests that differ, as those of ticks do."""
    return (request_for_bench(seq) for seq in itertools.count(1))


if __name__ == "__main__":
    policy = flow_for_bench(int(sys.argv[2]))
    serve_at(sys.argv[1], PolicyServer(flow=policy, now_ns=time.monotonic_ns))
