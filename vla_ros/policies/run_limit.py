# SPDX-License-Identifier: Apache-2.0
"""A limit for inferences: what takes longer is ended, and nothing of it is used.

For nodes and commands: it starts a thread and reads the clock. Algorithms are handed a ``Guard``,
by default one that limits nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from vla_ros.errors import ConfigError, PolicyTimeoutError

Cancel = Callable[[], None]
# Called with what runs and how to end it; the run is what happens inside the context.
Guard = Callable[[str, Cancel], AbstractContextManager[None]]


def unlimited(what: str, cancel: Cancel) -> AbstractContextManager[None]:
    """Limit nothing."""
    return contextlib.nullcontext()


@dataclass
class _Run:
    """The run under way; ``is_over`` once its limit has passed."""

    what: str
    cancel: Cancel
    deadline_s: float
    is_over: bool = False
    is_stuck: bool = False


class RunLimit:
    """Ends runs that take longer than a limit.

    Args:
        limit_s: seconds that a run may take.
        on_stuck: called with a sentence when a run has not even ended ``grace_s`` after it was told
            to, as when a driver hangs: its thread is lost. A node then ends itself.
        grace_s: how long to wait for that.

    Thread-safety: one run at a time; ``close`` from any thread.
    """

    def __init__(
        self,
        limit_s: float,
        on_stuck: Callable[[str], None] | None = None,
        grace_s: float = 2.0,
    ) -> None:
        if not 0.001 <= limit_s <= 3600.0:
            raise ConfigError(f"limit_s must be 0.001 to 3600 s, got {limit_s}")
        self._limit_s, self._grace_s = limit_s, grace_s
        self._on_stuck = on_stuck
        self._changed = threading.Condition()
        self._run: _Run | None = None
        self._is_asleep = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def __call__(self, what: str, cancel: Cancel) -> Iterator[None]:
        """Watch what happens inside the context.

        Raises:
            PolicyTimeoutError: on leaving, if it took longer, even if it came to an end by itself.
        """
        run = _Run(what, cancel, time.monotonic() + self._limit_s)
        with self._changed:
            self._run = run
            if self._thread is None:  # who runs no graph gets no thread
                self._thread = threading.Thread(target=self._watch, name="run_limit", daemon=True)
                self._thread.start()
            elif self._is_asleep:
                self._changed.notify()
        try:
            yield
        except Exception as error:
            if self._end(run):
                raise self._overrun(what) from error
            raise
        if self._end(run):
            raise self._overrun(what)

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _end(self, run: _Run) -> bool:
        with self._changed:
            self._run = None
            return run.is_over or time.monotonic() > run.deadline_s

    def _overrun(self, what: str) -> PolicyTimeoutError:
        return PolicyTimeoutError(
            f"{what} took longer than {self._limit_s:g} s: ended, nothing of it is used"
        )

    def _watch(self) -> None:
        """Sleep until the run that is under way, if any, is over its limit.

        Runs that end in time wake nobody: at its deadline the thread looks which run is there now.
        """
        with self._changed:
            while not self._is_closed:
                run = self._run
                if run is None or run.is_stuck:
                    self._is_asleep = True
                    self._changed.wait()
                    self._is_asleep = False
                    continue
                due_s = run.deadline_s + (self._grace_s if run.is_over else 0.0)
                left_s = due_s - time.monotonic()
                if left_s > 0.0:
                    self._changed.wait(left_s)
                elif not run.is_over:
                    run.is_over = True
                    run.cancel()
                else:
                    run.is_stuck = True
                    if self._on_stuck is not None:
                        self._on_stuck(
                            f"{run.what} does not end {self._grace_s:g} s after it was told to"
                        )
