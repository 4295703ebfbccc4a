# SPDX-License-Identifier: Apache-2.0
"""A way to a policy server without a socket."""

from __future__ import annotations

from vla_ros.clock import ManualClock
from vla_ros.policies.remote.messages import Message
from vla_ros.policies.remote.server import PolicyServer


class FakeLink:
    """A link in this thread, to a server or to what a test hands it."""

    def __init__(self, server: PolicyServer, clock: ManualClock) -> None:
        self.server, self.clock = server, clock
        self.is_closed, self.is_deaf, self.number_offset = False, False, 0
        self.asked: list[Message] = []
        self._answers: list[bytes] = []
        self.is_open = True

    def send(self, data: bytes) -> None:
        if self.is_deaf:
            return
        question = Message.from_bytes(data)
        self.asked.append(question)
        answer = self.server.answer(question)
        number = {"number": question.values["number"] + self.number_offset}
        self.clock.advance(2_000_000)
        reply = Message(answer.kind, {**answer.values, **number}, answer.tensors)
        self._answers.append(reply.to_bytes())

    def receive(self, wait_s: float) -> bytearray | None:
        if not self._answers:
            self.clock.advance(round(wait_s * 1e9))
            return None
        return bytearray(self._answers.pop(0))

    def close(self) -> None:
        self.is_closed = True
        self._answers.clear()
