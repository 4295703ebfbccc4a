# SPDX-License-Identifier: Apache-2.0
"""What it costs to ask a policy in another process: two images there, a latent back.

The policy takes no time, so that what a call takes is the way: packing, socket or service, and
unpacking. Started as ``python -m vla_ros.bench.policy_transport <address>`` it is the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_ros.bench.feature_cache import CAMERA, observation_for_bench
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.errors import VlaRosError
from vla_ros.policies.base import Tensors
from vla_ros.policies.remote.client import RemoteSlowPolicy
from vla_ros.policies.remote.link import is_service, listen
from vla_ros.policies.remote.messages import Message, get_observation, put_observation
from vla_ros.policies.remote.server import PolicyServer, serve
from vla_ros.policies.remote.service_address import parse_service
from vla_ros.types import Observation

READY = "ready"
_WARM_UP = 20
_LATENT = np.zeros((1, 49, 128), np.float32)
_LIMIT_MS = 5.0


class Echo:
    """A slow policy that costs nothing."""

    name = "echo"
    max_age_s = 1.0

    def check_instruction(self, instruction: str) -> None:
        """Everything is understood."""

    def encode(self, observation: Observation) -> Tensors:
        """Return a latent of 25 kB."""
        return {"latent": _LATENT}

    def reset(self) -> None:
        """Nothing is kept."""


def measure_transport(repeats: int, has_ros: bool = False) -> list[Measurement]:
    """Return what a call takes by each way [ms], beside packing and unpacking alone.

    Raises:
        VlaRosError: if the server does not come up.
    """
    repeats = max(repeats, 50)
    with tempfile.TemporaryDirectory(prefix="vla_ros_transport_") as folder:
        results = [
            _measure("unix", f"unix:{Path(folder) / 'policy'}", repeats),
            _measure("tcp", "tcp:127.0.0.1:47631", repeats),
        ]
    if has_ros:
        with ros_domain() as domain:
            results.append(_measure("ros", f"ros:/policy@{domain}", repeats))
    return results


@contextmanager
def ros_domain() -> Iterator[int]:
    """Give a domain of its own, with the transports of a run, here and in processes started."""
    from vla_ros.nodes.links import register_links
    from vla_ros.nodes.processes import run_environment, take_domain

    domain, lock = take_domain()
    before = dict(os.environ)
    os.environ.update(run_environment(domain))
    register_links()
    try:
        yield domain
    finally:
        for name in run_environment(domain):
            os.environ.pop(name)
        os.environ.update(before)
        lock.close()


@contextmanager
def server_process(module: str, *arguments: str) -> Iterator[None]:
    """Run a module that says ``READY`` once it serves, and kill it in the end.

    Raises:
        VlaRosError: if it does not say so.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline().strip() != READY:
            raise VlaRosError(f"no server: {module} {' '.join(arguments)}")
        yield
    finally:
        server.kill()
        server.communicate()


def serve_at(address: str, server: PolicyServer) -> None:
    """Serve at an address until killed; says ``READY`` before."""
    if is_service(address):
        from vla_ros.nodes.policy_service import serve_by_service

        serve_by_service(server, parse_service(address), lambda: False, _say_ready)
    with listen(address) as listener:
        _say_ready()
        serve(lambda: server, listener, lambda: False)


def _say_ready() -> None:
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()


def _measure(kind: str, address: str, repeats: int) -> Measurement:
    frame = observation_for_bench().frames[CAMERA]
    frames = {CAMERA: frame, "wrist_camera": replace(frame, name="wrist_camera")}
    observation = replace(observation_for_bench(), frames=frames)
    with server_process(__name__, address):
        policy = RemoteSlowPolicy(address)
        taken, packing = [], []
        for k in range(repeats + _WARM_UP):
            start_ns = time.perf_counter_ns()
            policy.encode(observation)
            between_ns = time.perf_counter_ns()
            message = Message.from_bytes(Message("x", *put_observation(observation)).to_bytes())
            get_observation(message.values, message.tensors)
            if k >= _WARM_UP:
                taken.append((between_ns - start_ns) * 1e-6)
                packing.append((time.perf_counter_ns() - between_ns) * 1e-6)
    result = compared(
        f"policy.transport_{kind}",
        float(np.median(taken)),
        float(np.median(packing)),
        "ms",
        repeats,
        f"a question with two images of 224 x 224 to another process and {_LATENT.nbytes} bytes "
        f"back, p99 of at most {_LIMIT_MS:g} ms wanted; alternative: the question packed and "
        "unpacked in this process, without a way",
    )
    return replace(
        result,
        ours_p99=float(np.percentile(taken, 99)),
        alternative_p99=float(np.percentile(packing, 99)),
    )


if __name__ == "__main__":
    serve_at(sys.argv[1], PolicyServer(slow=Echo(), now_ns=time.monotonic_ns))
