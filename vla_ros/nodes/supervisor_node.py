# SPDX-License-Identifier: Apache-2.0
"""supervisor_node: grants authority over the arm, 200 ms at a time, and notices who is silent."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from vla_ros_msgs.msg import Authority, TaskState
from vla_ros_msgs.srv import ClaimAuthority

import vla_ros_core as core
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import SafetyError
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.nodes.loop import RateLoop
from vla_ros.safety.lease import Lease, LeaseTable
from vla_ros.safety.watchdog import Watchdog

_PUBLISH_EVERY = 5  # renewals


@dataclass(frozen=True, kw_only=True)
class SupervisorNodeConfig:
    """Parameters of the supervisor."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    rate_hz: float = setting(
        50.0, "renewals per second", unit="Hz", ge=10.0, le=200.0, read_only=True
    )
    watched: str = setting(
        "/control_node,/camera_node,/vla_node,/executor_node,/task_node",
        "nodes whose diagnostics must arrive, comma separated",
        read_only=True,
    )
    silence_s: float = setting(
        3.0, "silence that is reported", unit="s", ge=1.0, le=60.0, read_only=True
    )

    def __post_init__(self) -> None:
        check_fields(self)


class SupervisorNode(VlaNode):
    """Hands out leases; when it dies they run out and the arm holds."""

    config_type = SupervisorNodeConfig

    def __init__(self) -> None:
        super().__init__("supervisor_node")
        self._loop: RateLoop | None = None
        self._lock = threading.Lock()
        self._cycle = 0

    def on_setup(self, config: SupervisorNodeConfig) -> None:
        """Take over the lease ring; epochs go on where a predecessor left off."""
        last = core.LeaseReader(config.shm_prefix).latest()
        self._table = LeaseTable(first_epoch=last[1] if last else 0)
        self._restore(last)
        self._writer = core.LeaseWriter(config.shm_prefix)
        names = [name.strip() for name in config.watched.split(",") if name.strip()]
        self._watchdog = Watchdog(names, int(config.silence_s * NS_PER_S), core.monotonic_ns())
        self._authority_pub = self.create_counted_publisher(Authority, "authority")
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.create_subscription(Authority, "authority/keepalive", self._on_keepalive, 10)
        self.create_subscription(TaskState, "task/state", self._on_task, LATCHED)
        self.create_service(ClaimAuthority, "~/claim", self._on_claim)

    def on_start(self) -> None:
        """Begin to renew."""
        self._loop = RateLoop("leases", self.config.rate_hz, self._renew, self.report_failure)
        self._loop.start()

    def on_stop(self) -> None:
        """Stop renewing: the lease runs out and the arm holds."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None
            self._writer.close()

    def health(self) -> NodeHealth:
        """Say who holds authority and who is silent."""
        silent = self._watchdog.silent(core.monotonic_ns())
        values = {"holder": self._table.holder or "nobody"}
        if silent:
            words = ", ".join(f"{name} for {age_s:.1f} s" for name, age_s in silent.items())
            return NodeHealth.warn(f"silent: {words}", values)
        return NodeHealth.ok("all nodes report", values)

    def _restore(self, last: tuple[str, int, int] | None) -> None:
        """Give authority back to who held it when a predecessor died moments ago.

        Under a new epoch: what was in flight meanwhile is refused.
        """
        if last is None or not last[0]:
            return
        silent_ns = core.monotonic_ns() - last[2]
        if silent_ns < 10 * NS_PER_S:
            self._table.restore(last[0], core.monotonic_ns())
            self.get_logger().warning(f"authority of {last[0]} restored after a restart")

    def _renew(self, now_ns: int) -> None:
        with self._lock:
            lease = self._write_lease(now_ns)
        self._cycle += 1
        if self._cycle % _PUBLISH_EVERY == 0:
            message = Authority(source=lease.source, epoch=lease.epoch, expiry_ns=lease.expiry_ns)
            message.header.stamp = self.ros_time(now_ns)
            self._authority_pub.publish(message)

    def _on_claim(
        self, request: ClaimAuthority.Request, response: ClaimAuthority.Response
    ) -> ClaimAuthority.Response:
        with self._lock:
            try:
                if request.claim:
                    self._table.claim(request.source, core.monotonic_ns())
                else:
                    self._table.release(request.source)
                response.success = True
            except SafetyError as error:
                response.message = str(error)
            # At once, not at the next renewal: giving back must reach the arm without delay.
            response.epoch = self._write_lease(core.monotonic_ns()).epoch
        return response

    def _on_task(self, task: TaskState) -> None:
        """Name the instruction in the lease at once: rows of the one before end within braking."""
        is_running = task.status == TaskState.RUNNING
        with self._lock:
            self._table.set_instruction(task.instruction_id if is_running else 0)
            if self._loop is not None:
                self._write_lease(core.monotonic_ns())

    def _write_lease(self, now_ns: int) -> Lease:
        lease = self._table.renewed(now_ns)
        self._writer.write(lease.source, lease.epoch, lease.expiry_ns, lease.instruction_id)
        return lease

    def _on_keepalive(self, message: Authority) -> None:
        with self._lock:
            self._table.keep(message.source, core.monotonic_ns())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now_ns = core.monotonic_ns()
        for status in message.status:
            self._watchdog.heard(status.name, now_ns)


def main() -> None:
    """Run the node."""
    run_node(SupervisorNode)
