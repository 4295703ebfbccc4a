# SPDX-License-Identifier: Apache-2.0
"""What it costs to ask a policy in another process: two images there, a latent back.

The policy takes no time, so that what a call takes is the way: packing, socket, unpacking, both
ways. Started as ``python -m vla_ros.bench.policy_transport <address>`` it is the server.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_ros.bench.feature_cache import CAMERA, observation_for_bench
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.errors import VlaRosError
from vla_ros.policies.base import Tensors
from vla_ros.policies.remote.client import RemoteSlowPolicy
from vla_ros.policies.remote.link import listen
from vla_ros.policies.remote.messages import Message, get_observation, put_observation
from vla_ros.policies.remote.server import PolicyServer, serve
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


def measure_transport(repeats: int) -> list[Measurement]:
    """Return what a call takes by each kind of socket [ms], beside packing and unpacking alone.

    Raises:
        VlaRosError: if the server does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="vla_ros_transport_") as folder:
        return [
            _measure("unix", f"unix:{Path(folder) / 'policy'}", max(repeats, 50)),
            _measure("tcp", "tcp:127.0.0.1:47631", max(repeats, 50)),
        ]


def _measure(kind: str, address: str, repeats: int) -> Measurement:
    frame = observation_for_bench().frames[CAMERA]
    frames = {CAMERA: frame, "wrist_camera": replace(frame, name="wrist_camera")}
    observation = replace(observation_for_bench(), frames=frames)
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline().strip() != READY:
            raise VlaRosError(f"no server at {address}")
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
    finally:
        server.kill()
        server.communicate()
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
    with listen(sys.argv[1]) as listener:
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
        echo = PolicyServer(slow=Echo(), now_ns=time.monotonic_ns)
        serve(lambda: echo, listener, lambda: False)
