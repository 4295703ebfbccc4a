# SPDX-License-Identifier: Apache-2.0
"""A thread that calls a function at a fixed rate, by absolute time and without catching up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.errors import VlaRosError
from vla_ros.nodes.base import set_thread_nice


class RateLoop:
    """Runs ``step(now_ns)`` every period until stopped. A late call is not made up for.

    A step that fails is handed to ``on_error``; the loop goes on, as one bad input must not silence
    a node for good.
    """

    def __init__(
        self,
        name: str,
        rate_hz: float,
        step: Callable[[int], None],
        on_error: Callable[[str], None] | None = None,
        nice: int | None = None,
    ) -> None:
        self._period_ns = int(NS_PER_S / rate_hz)
        self._step = step
        self._on_error = on_error or _print
        self._nice = nice
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._running.set()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End after the step under way; returns after ``timeout_s`` at the latest."""
        self._running.clear()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=timeout_s)

    def _run(self) -> None:
        if self._nice is not None:
            set_thread_nice(self._nice)
        deadline_ns = core.monotonic_ns()
        while self._running.is_set():
            deadline_ns += self._period_ns
            now_ns = core.monotonic_ns()
            if deadline_ns <= now_ns:
                # Missed: go on from the next grid point, so that the phase stays.
                deadline_ns += (now_ns - deadline_ns) // self._period_ns * self._period_ns
            core.sleep_until_ns(deadline_ns)
            try:
                self._step(core.monotonic_ns())
            except Exception as error:
                self._on_error(f"{threading.current_thread().name}: {describe(error)}")


def _print(text: str) -> None:
    sys.stderr.write(text + "\n")


def describe(error: Exception) -> str:
    """Return one line about an error: its text, and its type if it is not one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, VlaRosError) else f"{type(error).__name__}: {text}"
