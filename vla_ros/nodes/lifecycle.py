# SPDX-License-Identifier: Apache-2.0
"""Takes nodes from started to active, and says what it waited for in vain.

All configure side by side, and none is activated before the last is configured: starting and
importing are what keeps a processor busy longest, and no control loop should run beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node

from vla_ros.clock import NS_PER_S

_NEXT = {
    State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, "configure"),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE, "activate"),
}
# A question can go to the dead predecessor of a node, whose services are still listed, and an
# answer can be lost before client and server have found each other: after this long, ask again.
_ANSWER_LIMIT_S = 0.5


@dataclass
class _Drive:
    """One node on its way to active."""

    change: Any
    get: Any
    future: Any = None
    is_change: bool = False
    transition: str = ""
    asked_ns: int = 0
    is_configured: bool = False
    is_active: bool = False
    waits_for: str = "appear"
    problem: str = ""


class LifecycleDriver:
    """Asks each node for its state and for the next transition, without blocking.

    Whoever calls ``tick`` again and again must spin the node in between.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._drives: dict[str, _Drive] = {}

    def add(self, full_name: str) -> None:
        """Bring up a node, or bring it up anew after a restart."""
        self.remove(full_name)
        self._drives[full_name] = _Drive(
            self._node.create_client(ChangeState, f"{full_name}/change_state"),
            self._node.create_client(GetState, f"{full_name}/get_state"),
        )

    def remove(self, full_name: str) -> None:
        """Forget a node."""
        drive = self._drives.pop(full_name, None)
        if drive is not None:
            self._node.destroy_client(drive.change)
            self._node.destroy_client(drive.get)

    def tick(self, now_ns: int) -> None:
        """Make whatever progress is possible."""
        for drive in list(self._drives.values()):
            if not drive.is_active and not drive.problem:
                self._advance(drive, now_ns)

    def waiting(self) -> dict[str, str]:
        """Return the nodes that are not active yet and what each has still to do.

        Those that keep the others waiting come first.
        """
        late = {n: d for n, d in self._drives.items() if not d.is_active and not d.problem}
        ordered = sorted(late.items(), key=lambda item: item[1].is_configured)
        return {name: drive.waits_for for name, drive in ordered}

    def problems(self) -> dict[str, str]:
        """Return the nodes that refused a transition, and what they could not do."""
        return {name: drive.problem for name, drive in self._drives.items() if drive.problem}

    def is_active(self, names: Sequence[str]) -> bool:
        """Return whether all these nodes are active."""
        return all(name in self._drives and self._drives[name].is_active for name in names)

    def _may_activate(self) -> bool:
        return all(d.is_configured or d.is_active or d.problem for d in self._drives.values())

    def _advance(self, drive: _Drive, now_ns: int) -> None:
        if drive.future is not None:
            self._look_at_answer(drive, now_ns)
        elif drive.is_configured and not self._may_activate():
            return
        elif drive.get.service_is_ready() and drive.change.service_is_ready():
            self._ask_state(drive, now_ns)

    def _ask_state(self, drive: _Drive, now_ns: int) -> None:
        drive.future, drive.is_change = drive.get.call_async(GetState.Request()), False
        drive.asked_ns = now_ns
        drive.waits_for = drive.waits_for if drive.transition else "say its state"

    def _look_at_answer(self, drive: _Drive, now_ns: int) -> None:
        if not drive.future.done():
            # A transition that takes longer than this answers questions for the state when it is
            # over: asking again is harmless then, too.
            if now_ns - drive.asked_ns > _ANSWER_LIMIT_S * NS_PER_S:
                self._ask_state(drive, now_ns)
            return
        answer, drive.future = drive.future.result(), None
        if answer is None:
            return
        if not drive.is_change:
            self._act_on_state(drive, answer.current_state, now_ns)
        elif answer.success:
            self._ask_state(drive, now_ns)
        else:
            drive.problem = drive.transition

    def _act_on_state(self, drive: _Drive, state: Any, now_ns: int) -> None:
        if state.id == State.PRIMARY_STATE_ACTIVE:
            drive.is_active, drive.waits_for = True, ""
        elif state.id == State.PRIMARY_STATE_FINALIZED:
            drive.problem = "be brought up: it is shut down"
        elif state.id in _NEXT:
            number, name = _NEXT[state.id]
            drive.is_configured = state.id == State.PRIMARY_STATE_INACTIVE
            if drive.is_configured and not self._may_activate():
                drive.waits_for = name
                return
            request = ChangeState.Request()
            request.transition.id = number
            drive.future, drive.is_change = drive.change.call_async(request), True
            drive.transition = drive.waits_for = name
            drive.asked_ns = now_ns
        # Else it is between two states: ask again at the next tick.
