# SPDX-License-Identifier: Apache-2.0
"""How a policy is run in virtual time: its inferences take delays that are drawn from a trace.

``SplitExecution``: the slow half makes latents, the fast half acts on the newest usable one at
every step. ``WholeExecution``: a policy in one piece, whose rows arrive after the delay. Delays
count from the beginning of an inference; one inference at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from vla_ros.chunking.executor import StepResult
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.types import Observation, RobotState, Segment


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How inferences run and how their rows are executed.

    Attributes:
        delay: from the beginning of a slow inference, or of one of a policy in one piece, until its
            result is there.
        settings: of the strategy; None: its defaults.
    """

    strategy: str = setting("timed", "how chunks are joined")
    settings: Any = None
    delay: DelayConfig = field(default_factory=DelayConfig)
    period_s: float = setting(
        0.1, "shortest time between two slow inferences", unit="s", ge=0.001, le=60.0
    )
    timeout_s: float = setting(1.0, "a result is given up after", unit="s", ge=0.05, le=60.0)
    admits: bool = setting(
        True, "results are admitted by their stamps; clients without stamps take them all"
    )
    old_instruction_counts: bool = setting(
        False, "results and rows of an earlier instruction are executed"
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class Counts:
    """What an episode has cost.

    Attributes:
        slow: inferences begun, by the slow half or by a policy in one piece.
        failed: calls that raised an error.
        chunks: that arrived, from ``first_ns`` to ``last_ns`` [ns].
    """

    slow: int = 0
    failed: int = 0
    chunks: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def add_chunk(self, now_ns: int) -> None:
        """Count a chunk that is there now."""
        self.first_ns = self.first_ns if self.chunks else now_ns
        self.last_ns = now_ns
        self.chunks += 1

    @property
    def chunk_hz(self) -> float:
        """Chunks per second from the first to the last; NaN before there are two."""
        if self.chunks < 2 or self.last_ns <= self.first_ns:
            return float("nan")
        return (self.chunks - 1) * NS_PER_S / (self.last_ns - self.first_ns)


class Execution(Protocol):
    """Runs a policy for whoever moves the time on."""

    counts: Counts

    @property
    def due_ns(self) -> int | None:
        """When the inference under way ends or is given up [ns]; None without one."""

    @property
    def instruction_id(self) -> int:
        """The instruction that results must belong to."""

    @property
    def cause(self) -> LatencyStamp | None:
        """The inference that the newest rows owe themselves to: what it saw, when it began."""

    def begin(self, episode_id: int, seed: int) -> None:
        """Forget everything: a new episode begins, with the delays of ``seed``."""

    def instruct(self, now_ns: int, state: RobotState) -> Segment | None:
        """Begin another instruction; return what may be left of the old rows, if any."""

    def look(self, now_ns: int, observation: Observation) -> None:
        """Take what has become ready; begin to infer if nothing is under way and images are new."""

    def step(self, now_ns: int, observation: Observation) -> StepResult:
        """Return what to execute from now on."""
