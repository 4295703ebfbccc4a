# SPDX-License-Identifier: Apache-2.0
"""Make a fast policy as slow as a large model, idly or by really computing, to test the runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import ConfigError

Result = TypeVar("Result")

# A batch of products too small for the BLAS to spread: one thread computes about 1 ms per call.
_BATCH, _SIDE = 256, 64


@dataclass(frozen=True, kw_only=True)
class StretchConfig:
    """How long one inference shall take.

    Attributes:
        latency_ms: total duration [ms], 0 to 60000; 0 leaves the policy as it is.
        mode: "idle" waits, as for a remote server; "busy" computes on this machine.
        threads: computing threads in busy mode, 1 to 64.
    """

    latency_ms: float = 0.0
    mode: Literal["idle", "busy"] = "idle"
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.latency_ms <= 60_000.0:
            raise ConfigError(f"latency_ms must be 0..60000, got {self.latency_ms}")
        if self.mode not in ("idle", "busy"):
            raise ConfigError(f"mode must be 'idle' or 'busy', got {self.mode!r}")
        if not 1 <= self.threads <= 64:
            raise ConfigError(f"threads must be 1..64, got {self.threads}")


class Stretcher:
    """Runs a function and returns no earlier than the configured latency.

    Args:
        config: how long and in which way.
        sleep: waits for a number of seconds; an event's ``wait`` makes it possible to cut short.
    """

    def __init__(
        self, config: StretchConfig, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._config = config
        self._sleep = sleep

    def run(self, function: Callable[[], Result], now_ns: Callable[[], int]) -> Result:
        """Return the function's result after at least ``latency_ms``; its errors pass at once.

        Args:
            function: the inference.
            now_ns: reads the clock [ns]; in busy mode it is called from several threads.
        """
        deadline_ns = now_ns() + round(self._config.latency_ms * NS_PER_MS)
        result = function()
        remaining_ns = deadline_ns - now_ns()
        if remaining_ns <= 0:
            return result
        if self._config.mode == "idle":
            self._sleep(remaining_ns / NS_PER_S)
        else:
            self._compute_until(deadline_ns, now_ns)
        return result

    def _compute_until(self, deadline_ns: int, now_ns: Callable[[], int]) -> None:
        """Multiply matrices in every thread until the deadline; the GIL is free meanwhile."""

        def compute() -> None:
            batch = np.full((_BATCH, _SIDE, _SIDE), 1.0 / _SIDE, dtype=np.float32)
            out = np.empty_like(batch)
            while now_ns() < deadline_ns:
                np.matmul(batch, batch, out=out)

        extra = [threading.Thread(target=compute) for _ in range(self._config.threads - 1)]
        for thread in extra:
            thread.start()
        compute()
        for thread in extra:
            thread.join()
