# SPDX-License-Identifier: Apache-2.0
"""A loop at 500 Hz that does nothing: how late it wakes up shows what others cost it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType

import numpy as np

import vla_ros_core as core
from vla_ros.errors import VlaRosError

RATE_HZ = 500


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """Wake-ups after their deadline [us]."""

    p50: float
    p99: float
    max: float
    n: int


class LoopProbe:
    """Runs the loop in a process of its own while the context lasts; ``result`` comes after."""

    result: Lateness

    def __enter__(self) -> LoopProbe:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vla_ros.bench.loop_probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            output, _ = self._process.communicate("stop\n", timeout=10)
        finally:
            self._process.kill()
            self._process.wait()
        if not output.strip():
            raise VlaRosError("the loop ended without a result")
        self.result = Lateness(**json.loads(output))


def run_loop() -> Lateness:
    """Run until standard input has something to read."""
    core.raise_thread_priority("normal")
    period_ns = 1_000_000_000 // RATE_HZ
    late_ns = []
    deadline_ns = core.monotonic_ns() + period_ns
    while True:
        core.sleep_until_ns(deadline_ns)
        now_ns = core.monotonic_ns()
        late_ns.append(now_ns - deadline_ns)
        # No catching up: a wake-up that was missed is not two.
        deadline_ns += period_ns * max(1, -(-(now_ns - deadline_ns) // period_ns))
        if len(late_ns) % 50 == 0 and select.select([sys.stdin], [], [], 0)[0]:
            break
    late_us = np.array(late_ns) / 1000.0
    return Lateness(
        p50=float(np.median(late_us)),
        p99=float(np.percentile(late_us, 99)),
        max=float(late_us.max()),
        n=len(late_us),
    )


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(vars(run_loop())) + "\n")
