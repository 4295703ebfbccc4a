# SPDX-License-Identifier: Apache-2.0
"""task_node: the ExecuteTask action. One instruction at a time; always an outcome with a reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.client import Client
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_ros_msgs.action import ExecuteTask
from vla_ros_msgs.msg import (
    ActionChunk,
    Authority,
    ControlStatus,
    SlowStatus,
    TaskState,
    Verdict,
)
from vla_ros_msgs.srv import ClaimAuthority

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import VlaRosError
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.policies.registry import (
    ALLOWED,
    DEFAULT_POLICY,
    make_instruction_check,
    resolve_policy_name,
)
from vla_ros.task import FAILED, Outcome, TaskInputs, TaskRun

SOURCE = "policy"
_PERIOD_S = 0.08
_RECLAIM_NS = 500 * NS_PER_MS
_SUPERVISOR_NS = 5000 * NS_PER_MS


@dataclass(frozen=True, kw_only=True)
class TaskNodeConfig:
    """Parameters of the task node."""

    policy: str = setting(
        DEFAULT_POLICY, f"policy that judges instructions: {ALLOWED}", read_only=True
    )
    use_verdict: bool = setting(
        True, "end as verified when the judge of the simulation says so", read_only=True
    )

    def __post_init__(self) -> None:
        check_fields(self)
        resolve_policy_name(self.policy)


@dataclass
class _Active:
    """The goal under way; ``handle`` is None when it came by topic."""

    run: TaskRun
    handle: ServerGoalHandle | None
    started_ns: int
    claimed_ns: int = 0
    chunk: ActionChunk | None = None
    cancel_requested: bool = False


class TaskNode(VlaNode):
    """Accepts instructions, says what became of them, and gives authority back at the end."""

    config_type = TaskNodeConfig

    def __init__(self) -> None:
        super().__init__("task_node")
        self._active: _Active | None = None
        self._episode_id = 0
        self._status = ControlStatus()
        self._verdict = Verdict()
        self._slow = SlowStatus()

    def on_setup(self, config: TaskNodeConfig) -> None:
        """Create the action and what it needs to know."""
        self._policy = make_instruction_check(config.policy)
        # Numbers must not repeat after a restart: latents of an older life are still about.
        self._episode_id = core.monotonic_ns() // 1_000_000
        self._state_pub = self.create_counted_publisher(TaskState, "task/state", LATCHED)
        self._alive_pub = self.create_counted_publisher(Authority, "authority/keepalive")
        self._claim: Client[Any, Any] = self.create_client(ClaimAuthority, "supervisor_node/claim")
        self.create_subscription(ActionChunk, "action_chunk", self._on_chunk, 5)
        self.create_subscription(ControlStatus, "control/status", self._on_control, 5)
        self.create_subscription(SlowStatus, "slow/status", self._on_slow, 5)
        self.create_subscription(Verdict, "judge/verdict", self._on_verdict, 5)
        self.create_subscription(Authority, "authority", self._on_authority, 5)
        self.create_subscription(String, "task/instruction", self._on_instruction, 5)
        self.create_service(Trigger, "~/cancel", self._on_cancel_service)
        self.create_timer(_PERIOD_S, self._tick)
        self._server = ActionServer(
            self,
            ExecuteTask,
            "execute_task",
            execute_callback=lambda handle: ExecuteTask.Result(),
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        self._publish_state(TaskState.IDLE, "")

    def on_stop(self) -> None:
        """End the task under way."""
        if self._active is not None:
            self._finish(Outcome("stopped", "the task node is shutting down"))

    def health(self) -> NodeHealth:
        """Say whether a task runs."""
        return NodeHealth.ok("running a task" if self._active else "idle")

    # --- requests -------------------------------------------------------------------------------

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        # Goals are accepted first and judged here: a rejected goal could not say why.
        goal = handle.request
        problem = self._start(goal.instruction, goal.max_duration_s, goal.wait_for_verdict, handle)
        if problem:
            self._conclude(handle, Outcome(FAILED, problem), 0, 0.0)

    def _on_instruction(self, message: String) -> None:
        self._start(message.data, 0.0, False, None)

    def _start(
        self,
        instruction: str,
        max_duration_s: float,
        wait_for_verdict: bool,
        handle: ServerGoalHandle | None,
    ) -> str:
        """Begin a task; return why not, or an empty text."""
        problem = self._why_not(instruction)
        if not problem:
            try:
                if not math.isfinite(max_duration_s):
                    raise VlaRosError(f"max_duration_s must be finite, got {max_duration_s}")
                run = TaskRun(core.monotonic_ns(), max_duration_s, wait_for_verdict)
            except VlaRosError as error:
                problem = str(error)
        if problem:
            self.get_logger().warning(f"instruction refused: {problem}")
            return problem
        self._episode_id += 1
        self._active = _Active(run, handle, started_ns=core.monotonic_ns())
        self._verdict = Verdict()
        self._instruction = instruction
        self._publish_state(TaskState.RUNNING, instruction)
        self._tick()
        return ""

    def _why_not(self, instruction: str) -> str:
        if self._active is not None:
            return f"busy with {self._instruction!r}: cancel it first"
        if self._status.mode == ControlStatus.STOPPED:
            return "the arm is stopped: call control_node/resume first"
        try:
            self._policy.check_instruction(instruction)
        except VlaRosError as error:
            return str(error)
        return ""

    def _on_claimed(self, future: Any) -> None:
        response = future.result()
        if self._active is not None and (response is None or not response.success):
            reason = response.message if response else "no answer"
            self._finish(Outcome(FAILED, f"no authority over the arm: {reason}"))

    def _on_authority(self, message: Authority) -> None:
        """Ask again when authority was lost, as after a freeze of this node or the supervisor."""
        active, now_ns = self._active, core.monotonic_ns()
        if active is None or message.source or not active.claimed_ns:
            return
        if now_ns - active.claimed_ns < _RECLAIM_NS:
            return
        if now_ns - self.times.to_monotonic(message.header.stamp) > _RECLAIM_NS:
            return  # from before the freeze
        active.claimed_ns = now_ns
        self.get_logger().warning("authority was lost: asking again")
        self._ask_for_authority()

    def _claim_when_possible(self, active: _Active, now_ns: int) -> bool:
        """Ask for authority as soon as the supervisor is there; False if the task ended instead."""
        if self._claim.service_is_ready():
            active.claimed_ns = now_ns
            self._ask_for_authority()
        elif now_ns - active.started_ns > _SUPERVISOR_NS:
            self._finish(
                Outcome(FAILED, "supervisor_node does not answer: nobody can grant authority")
            )
            return False
        return True

    def _ask_for_authority(self) -> None:
        request = ClaimAuthority.Request(source=SOURCE, claim=True)
        self._claim.call_async(request).add_done_callback(self._on_claimed)

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if self._active is not None and self._active.handle is handle:
            self._active.cancel_requested = True
        return CancelResponse.ACCEPT

    def _on_cancel_service(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        response.success = self._active is not None
        response.message = "cancelling" if self._active else "no task runs"
        if self._active is not None:
            self._active.cancel_requested = True
        return response

    # --- progress -------------------------------------------------------------------------------

    def _on_chunk(self, chunk: ActionChunk) -> None:
        if self._active is not None and chunk.stamp.episode_id == self._episode_id:
            self._active.chunk = chunk

    def _on_control(self, status: ControlStatus) -> None:
        self._status = status
        if status.mode == ControlStatus.STOPPED:
            self._tick()

    def _on_slow(self, status: SlowStatus) -> None:
        self._slow = status

    def _on_verdict(self, verdict: Verdict) -> None:
        # A verdict about the scene before this task began says nothing about this task.
        if self._active is not None:
            seen_ns = self.times.to_monotonic(verdict.header.stamp)
            if seen_ns >= self._active.run.start_ns:
                self._verdict = verdict

    def _tick(self) -> None:
        active = self._active
        if active is None:
            return
        now_ns = core.monotonic_ns()
        if not active.claimed_ns and not self._claim_when_possible(active, now_ns):
            return
        self._alive_pub.publish(Authority(source=SOURCE))
        chunk = active.chunk
        outcome = active.run.update(
            now_ns,
            TaskInputs(
                claims_done=chunk is not None and chunk.done,
                is_verified=self.config.use_verdict and self._verdict.success,
                verdict=self._verdict.reason,
                is_stopped=self._status.mode == ControlStatus.STOPPED,
                cancel_requested=active.cancel_requested,
            ),
        )
        if outcome is not None:
            self._finish(self._with_cause(outcome, chunk))
        elif active.handle is not None:
            feedback = ExecuteTask.Feedback(elapsed_s=active.run.elapsed_s(now_ns))
            feedback.phase = chunk.phase if chunk else "waiting for the first latent"
            feedback.latent_age_ms = chunk.latent_age_ms if chunk else math.nan
            active.handle.publish_feedback(feedback)

    def _with_cause(self, outcome: Outcome, chunk: ActionChunk | None) -> Outcome:
        """Add why nothing ever moved, such as a camera that is not there."""
        if outcome.outcome != FAILED or chunk is not None or not self._slow.last_error:
            return outcome
        return Outcome(FAILED, f"{outcome.reason}; slow policy: {self._slow.last_error}")

    def _finish(self, outcome: Outcome) -> None:
        active, self._active = self._active, None
        assert active is not None
        # Authority first: the arm comes to rest whatever happens to the words about it.
        self._claim.call_async(ClaimAuthority.Request(source=SOURCE, claim=False))
        self._publish_state(TaskState.ENDED, self._instruction, outcome)
        self.get_logger().info(f"{outcome.outcome}: {outcome.reason}")
        if active.handle is not None:
            elapsed_s = active.run.elapsed_s(core.monotonic_ns())
            self._conclude(active.handle, outcome, self._episode_id, elapsed_s)

    def _conclude(
        self, handle: ServerGoalHandle, outcome: Outcome, episode_id: int, elapsed_s: float
    ) -> None:
        """Hand the result to the client: goal status tells the mechanics, ``outcome`` the task."""
        result = ExecuteTask.Result(
            outcome=outcome.outcome,
            reason=outcome.reason,
            episode_id=episode_id,
            elapsed_s=elapsed_s,
        )

        def finish(goal: ServerGoalHandle) -> ExecuteTask.Result:
            if goal.is_cancel_requested:
                goal.canceled()
            elif outcome.outcome in ("verified", "done_claimed"):
                goal.succeed()
            else:
                goal.abort()
            return result

        # The goal stays 'accepted' while it runs: a callback that waited here for the end would
        # keep the executor from everything else.
        handle.execute(finish)

    def _publish_state(self, status: int, instruction: str, outcome: Outcome | None = None) -> None:
        message = TaskState(status=status, episode_id=self._episode_id, instruction=instruction)
        message.header.stamp = self.ros_time(core.monotonic_ns())
        message.instruction_id = self._episode_id % 2**32
        if outcome is not None:
            message.outcome, message.reason = outcome.outcome, outcome.reason
        self._state_pub.publish(message)


def main() -> None:
    """Run the node."""
    run_node(TaskNode)
