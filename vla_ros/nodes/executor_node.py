# SPDX-License-Identifier: Apache-2.0
"""executor_node: the fast half. Newest usable latent and fresh state to segments, 30 per second."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from vla_ros_msgs.msg import ActionChunk as ActionChunkMsg
from vla_ros_msgs.msg import ExecutorStatus, TaskState

import vla_ros_core as core
from vla_ros.chunking.executor import ChunkExecutor, StepResult
from vla_ros.chunking.strategies.registry import negotiate, strategy_names
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import setting
from vla_ros.control.segments import write_segment
from vla_ros.control.state import StateReader
from vla_ros.errors import ShapeError, StaleDataError
from vla_ros.latency.buffer import Admission, BufferContext, LatentBuffer
from vla_ros.latency.clock_domain import ClockGate
from vla_ros.latency.codec import decode_tensors
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import pose_to_msg, stamp_to_msg
from vla_ros.nodes.loop import RateLoop
from vla_ros.nodes.policy_hooks import PolicyHooks
from vla_ros.nodes.policy_runner import PolicyRunner
from vla_ros.nodes.rings import FrameReader, RingReader
from vla_ros.policies.base import LooksAtCameras
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.hooks.settings import HookSettings
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS
from vla_ros.policies.registry import (
    ALLOWED,
    DEFAULT_POLICY,
    make_fast_policy,
    resolve_policy_name,
)
from vla_ros.types import Latent, Segment

SOURCE = "policy"
_MAX_STATE_AGE_NS = 50 * NS_PER_MS
_STATUS_PERIOD_S = 0.1
_REOPEN_AFTER_NS = NS_PER_S


@dataclass(frozen=True, kw_only=True)
class ExecutorNodeConfig(HookSettings):
    """Parameters of the executor node; those of the hooks come from ``HookSettings``."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    base_frame: str = setting("fr3_link0", "frame the rows are expressed in", read_only=True)
    policy: str = setting(DEFAULT_POLICY, f"fast policy: {ALLOWED}", read_only=True)
    policy_provider: str = setting(
        AUTO, "where the graph of an export runs", choices=PROVIDERS, read_only=True
    )
    policy_threads: int = setting(1, "its threads on the CPU", ge=1, le=64, read_only=True)
    policy_limit_s: float = setting(
        0.5, "a decode that takes longer is ended", unit="s", ge=0.01, le=60.0, read_only=True
    )
    policy_load_limit_s: float = setting(
        60.0,
        "loading a graph that takes longer is given up; `vla-ros policy check` builds engines",
        unit="s",
        ge=0.1,
        le=3600.0,
        read_only=True,
    )
    strategy: str = setting(
        "timed", "how chunks are joined; can be changed while it runs", choices=strategy_names()
    )
    rate_hz: float = setting(30.0, "chunks per second", unit="Hz", ge=1.0, le=200.0, read_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_policy_name(self.policy)


class ExecutorNode(VlaNode):
    """Commits what may be executed; has no say in when the arm stops."""

    config_type = ExecutorNodeConfig

    def __init__(self) -> None:
        super().__init__("executor_node")
        self._loop: RateLoop | None = None
        self._task = TaskState()
        self._counts: Counter[str] = Counter()
        self._last = StepResult(starved_reason="no task")
        self._latent_seq = 0
        self._latent_seen_ns = 0
        self._chunk_times_ns: deque[int] = deque(maxlen=300)

    def on_setup(self, config: ExecutorNodeConfig) -> None:
        """Load the policy; open latents, state, lease and the segment ring."""
        self._buffer = LatentBuffer(ClockGate(core.clock_id()))
        self._runner = PolicyRunner(
            self.get_logger(),
            config.policy_provider,
            config.policy_threads,
            config.policy_limit_s,
            config.policy_load_limit_s,
        )
        self._policy = make_fast_policy(config.policy, self._runner.runtime)
        self._hooks: PolicyHooks | None = None
        if config.has_hooks:
            self._hooks = PolicyHooks(
                self, config, self._policy, config.base_frame, 1.0 / config.rate_hz
            )
            self._policy = self._hooks.policy
        self._executor = ChunkExecutor(self._policy, self._buffer)
        cameras = self._policy.cameras if isinstance(self._policy, LooksAtCameras) else ()
        self._frames = FrameReader(config.shm_prefix, cameras)
        self._strategy = self._choose(config.strategy)
        self._latents = RingReader(f"{config.shm_prefix}.latent")
        self._state = StateReader(config.shm_prefix)
        self._lease = core.LeaseReader(config.shm_prefix)
        self._segments = core.SegmentWriter(config.shm_prefix, SOURCE)
        self._chunk_pub = self.create_counted_publisher(ActionChunkMsg, "action_chunk")
        self._status_pub = self.create_counted_publisher(ExecutorStatus, "executor/status")
        self.create_subscription(TaskState, "task/state", self._on_task, LATCHED)
        self.create_timer(_STATUS_PERIOD_S, self._publish_status)

    def on_start(self) -> None:
        """Begin to commit."""
        self._loop = RateLoop("fast", self.config.rate_hz, self._step, self.report_failure)
        self._loop.start()

    def on_stop(self) -> None:
        """Stop committing; the control host brakes when the rows run out."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def on_teardown(self) -> None:
        """Give the segment ring back."""
        self._segments.close()
        self._runner.close()

    def on_config_change(self, config: ExecutorNodeConfig) -> None:
        """Take over another strategy at the next step of the loop."""
        self._strategy = self._choose(config.strategy)

    def _choose(self, wanted: str) -> str:
        name, reason = negotiate(self._executor.capabilities, wanted)
        self.get_logger().info(f"strategy: {reason}")
        return name

    def health(self) -> NodeHealth:
        """Say whether the fast loop has what it needs."""
        values: dict[str, object] = {"strategy": self._executor.strategy_name, **self._counts}
        values |= {a.value: n for a, n in self._buffer.counts.items()}
        chunks = self._executor.committer.admission.counts
        values |= {f"chunks: {a.value}": n for a, n in chunks.items()}
        values |= diagnostics_of(self._policy)
        if self._hooks is not None:
            values |= self._hooks.diagnostics()
        if self._task.status != TaskState.RUNNING:
            return NodeHealth.ok("running", values)
        if self._last.segment is None:
            return NodeHealth.warn(f"starved: {self._last.starved_reason}", values)
        problem = alarm_of(self._policy)
        if not problem and self._hooks is not None:
            problem = self._hooks.problem(core.monotonic_ns())
        if problem:
            return NodeHealth.warn(problem, values)
        return NodeHealth.ok("running", values)

    def _on_task(self, task: TaskState) -> None:
        # Taken over by the loop thread at its next step.
        self._task = task

    def _step(self, now_ns: int) -> None:
        task = self._task
        if self._strategy != self._executor.strategy_name:
            self._executor.use(self._strategy)
        if task.status != TaskState.RUNNING:
            self._last = StepResult(starved_reason="no task")
            self._chunk_times_ns.clear()
            return
        context = self._executor.context(task.episode_id, task.instruction_id)
        if context != self._buffer.context:
            self._change_task(context, now_ns)
        self._take_latent(now_ns)
        self._last = self._decide(now_ns, task)
        if self._last.segment is None:
            self._counts["starved"] += 1
        else:
            self._commit(self._last.segment)
            self._chunk_times_ns.append(now_ns)
            self._publish_chunk(self._last, now_ns)
        if self._hooks is not None:
            self._hooks.publish(now_ns)

    def _change_task(self, context: BufferContext, now_ns: int) -> None:
        rest = self._executor.set_context(context, now_ns, self._state.latest())
        if rest is not None:
            write_segment(self._segments, rest)

    def _decide(self, now_ns: int, task: TaskState) -> StepResult:
        lease = self._lease.latest()
        if lease is None or lease[0] != SOURCE or lease[2] < now_ns:
            return StepResult(starved_reason="no authority")
        try:
            state = self._state.fresh(now_ns, _MAX_STATE_AGE_NS)
        except StaleDataError as error:
            self._state.reopen()
            return StepResult(starved_reason=str(error))
        if self._hooks is not None:
            self._hooks.begin_step(now_ns)
        return self._executor.step(now_ns, state, task.instruction, lease[1], self._frames.latest())

    def _take_latent(self, now_ns: int) -> None:
        entry = self._latents.latest()
        if entry is None or entry[0] == self._latent_seq:
            if now_ns - self._latent_seen_ns > _REOPEN_AFTER_NS:
                self._latent_seen_ns = now_ns
                self._latents.reopen_if_abandoned()
                self._frames.reopen_if_abandoned()
            return
        self._latent_seq, self._latent_seen_ns = entry[0], now_ns
        try:
            latent = Latent(
                tensors=decode_tensors(entry[2]), stamp=LatencyStamp.from_bytes(entry[1])
            )
        except ShapeError as error:
            self._counts["unreadable latents"] += 1
            self.get_logger().warning(f"latent refused: {error}", throttle_duration_sec=1.0)
            return
        self._buffer.offer(latent, now_ns)

    def _commit(self, s: Segment) -> None:
        self._counts["chunks"] += 1
        write_segment(self._segments, s)

    def _publish_chunk(self, result: StepResult, now_ns: int) -> None:
        chunk, segment = result.chunk, result.segment
        assert chunk is not None
        assert segment is not None
        message = ActionChunkMsg(stamp=stamp_to_msg(segment.stamp), phase=chunk.phase)
        message.header.stamp = self.ros_time(now_ns)
        message.header.frame_id = self.config.base_frame
        message.done = chunk.done
        message.poses = [
            pose_to_msg(p, q) for p, q in zip(chunk.positions, chunk.quats_xyzw, strict=True)
        ]
        message.gripper_width_m = chunk.gripper_width_m.tolist()
        message.latent_age_ms = result.latent_age_ms
        message.latent_age_true_ms = result.latent_age_true_ms
        message.seam_m = result.seam_m
        message.inference_ms = (core.monotonic_ns() - now_ns) / NS_PER_MS
        self._chunk_pub.publish(message)

    def _publish_status(self) -> None:
        result, counts = self._last, self._buffer.counts
        message = ExecutorStatus(starved_reason=result.starved_reason)
        message.header.stamp = self.ros_time(core.monotonic_ns())
        message.phase = result.chunk.phase if result.chunk else ""
        message.starved = result.segment is None
        message.latent_age_ms = result.latent_age_ms
        intervals_ms = np.diff(np.array(list(self._chunk_times_ns), dtype=np.int64)) / NS_PER_MS
        if len(intervals_ms):
            message.chunks_hz = float(1000.0 / intervals_ms.mean())
            message.interval_ms_p99 = float(np.percentile(intervals_ms, 99))
        message.chunks = self._counts["chunks"]
        message.latents_accepted = counts[Admission.ACCEPTED]
        message.latents_expired = counts[Admission.EXPIRED]
        message.latents_out_of_order = counts[Admission.OUT_OF_ORDER]
        message.latents_wrong_episode = counts[Admission.WRONG_EPISODE]
        message.latents_wrong_instruction = counts[Admission.WRONG_INSTRUCTION]
        message.latents_wrong_schema = counts[Admission.WRONG_SCHEMA]
        self._status_pub.publish(message)


def main() -> None:
    """Run the node."""
    run_node(ExecutorNode)
