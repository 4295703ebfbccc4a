# SPDX-License-Identifier: Apache-2.0
"""What an exported policy is run with inside a node: clock, limit, log."""

from __future__ import annotations

import os
from typing import Any

import vla_ros_core as core
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.run_limit import RunLimit

_WARMUP_LIMIT_S = 60.0
_EXIT_STUCK = 70  # EX_SOFTWARE: the node is started again


class PolicyRunner:
    """Gives a policy the monotonic clock, ends runs that take too long and logs fallbacks.

    A run that cannot be ended, as when a driver hangs, ends the process: the arm brakes when its
    rows run out, and a new process may have more luck.

    Args:
        logger: of the node.
        provider: where graphs run.
        threads: on the CPU.
        limit_s: seconds that one run may take.
    """

    def __init__(self, logger: Any, provider: str, threads: int, limit_s: float) -> None:
        self._logger = logger
        settings = SessionSettings(provider=provider, threads=threads)
        self._limit = RunLimit(limit_s, self._end)
        self._load_limit = RunLimit(_WARMUP_LIMIT_S, self._end)
        self.runtime = PolicyRuntime(
            session=settings,
            now_ns=core.monotonic_ns,
            guard=self._limit,
            load_guard=self._load_limit,
            report=logger.warning,
        )

    def close(self) -> None:
        """Stop watching."""
        self._limit.close()
        self._load_limit.close()

    def _end(self, why: str) -> None:
        self._logger.fatal(f"{why}: this process ends")
        os._exit(_EXIT_STUCK)
