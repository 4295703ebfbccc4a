# SPDX-License-Identifier: Apache-2.0
"""What an exported policy is run with inside a node: clock, limit, log."""

from __future__ import annotations

import os
from typing import Any

import vla_ros_core as core
from vla_ros.errors import ConfigError
from vla_ros.latency.ring import MAX_LATENT_BYTES
from vla_ros.policies.base import LatentContract, SlowPolicy
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.run_limit import RunLimit

_RING_BYTES = 1 << 20
_EXTRA_BYTES = 1 << 16  # names, and the strip of the image with its time
_EXIT_STUCK = 70  # EX_SOFTWARE: the node is started again


def latent_ring_bytes(policy: SlowPolicy) -> int:
    """Return how large a slot of the latent ring must be for a policy [bytes].

    Raises:
        ConfigError: if its latents are larger than rings may be.
    """
    size = policy.latent_bytes if isinstance(policy, LatentContract) else 0
    needed = max(_RING_BYTES, size + _EXTRA_BYTES)
    if needed > MAX_LATENT_BYTES:
        raise ConfigError(
            f"a latent of {policy.name} has {size} bytes, at most "
            f"{MAX_LATENT_BYTES - _EXTRA_BYTES} fit into a ring"
        )
    return needed


class PolicyRunner:
    """Gives a policy the monotonic clock, ends runs that take too long and logs fallbacks.

    A run that cannot be ended, as when a driver hangs, ends the process: the arm brakes when its
    rows run out, and a new process may have more luck.

    Args:
        logger: of the node.
        provider: where graphs run.
        threads: on the CPU.
        limit_s: seconds that one run may take.
        load_limit_s: seconds that making one session may take, and one run that warms it up.
        caches: run a slow half with its cache.
    """

    def __init__(
        self,
        logger: Any,
        provider: str,
        threads: int,
        limit_s: float,
        load_limit_s: float,
        *,
        caches: bool = False,
    ) -> None:
        self._logger = logger
        settings = SessionSettings(provider=provider, threads=threads)
        self._limit = RunLimit(limit_s, self._end)
        self._load_limit = RunLimit(load_limit_s, self._end)
        self.runtime = PolicyRuntime(
            session=settings,
            now_ns=core.monotonic_ns,
            guard=self._limit,
            load_guard=self._load_limit,
            open_guard=self._load_limit,
            report=logger.warning,
            cache=FeatureCacheConfig() if caches else None,
        )

    def close(self) -> None:
        """Stop watching."""
        self._limit.close()
        self._load_limit.close()

    def _end(self, why: str) -> None:
        self._logger.fatal(f"{why}: this process ends")
        os._exit(_EXIT_STUCK)
