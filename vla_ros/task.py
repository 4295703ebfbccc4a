# SPDX-License-Identifier: Apache-2.0
"""When an instruction counts as done, failed or stopped. Pure; told the time."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import ConfigError

DONE_CLAIMED, VERIFIED, FAILED, STOPPED = "done_claimed", "verified", "failed", "stopped"
DEFAULT_DURATION_S = 40.0
_CLAIM_NS = 500 * NS_PER_MS


@dataclass(frozen=True)
class Outcome:
    """How a task ended and why."""

    outcome: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """What is known about the task at one moment.

    Attributes:
        claims_done: the policy's newest chunk says that the instruction is fulfilled.
        is_verified: the independent judge (or a person) says so.
        is_stopped: the control host was stopped.
        cancel_requested: the client wants to end.
    """

    claims_done: bool = False
    is_verified: bool = False
    verdict: str = ""
    is_stopped: bool = False
    cancel_requested: bool = False


class TaskRun:
    """One instruction from its start to its outcome."""

    def __init__(
        self, start_ns: int, max_duration_s: float = 0.0, wait_for_verdict: bool = False
    ) -> None:
        duration_s = max_duration_s or DEFAULT_DURATION_S
        if not 0.1 <= duration_s <= 3600.0:
            raise ConfigError(
                f"max_duration_s must be 0.1 to 3600 s (0: default), got {duration_s}"
            )
        self.start_ns = start_ns
        self._duration_s = duration_s
        self._wait_for_verdict = wait_for_verdict
        self._claimed_since_ns: int | None = None

    def elapsed_s(self, now_ns: int) -> float:
        """Return how long the task has run [s]."""
        return (now_ns - self.start_ns) / NS_PER_S

    def update(self, now_ns: int, inputs: TaskInputs) -> Outcome | None:
        """Return the outcome once there is one. A stop outranks everything else."""
        if inputs.is_stopped:
            return Outcome(STOPPED, "stop requested")
        if inputs.cancel_requested:
            return Outcome(STOPPED, "cancelled by the client")
        if inputs.is_verified:
            return Outcome(VERIFIED, inputs.verdict or "verified")
        if self._has_claimed_long_enough(now_ns, inputs.claims_done) and not self._wait_for_verdict:
            return Outcome(DONE_CLAIMED, "the policy says that it is done")
        if self.elapsed_s(now_ns) >= self._duration_s:
            words = f"; {inputs.verdict}" if inputs.verdict else ""
            return Outcome(FAILED, f"not done within {self._duration_s:g} s{words}")
        return None

    def _has_claimed_long_enough(self, now_ns: int, claims_done: bool) -> bool:
        if not claims_done:
            self._claimed_since_ns = None
            return False
        if self._claimed_since_ns is None:
            self._claimed_since_ns = now_ns
        return now_ns - self._claimed_since_ns >= _CLAIM_NS
