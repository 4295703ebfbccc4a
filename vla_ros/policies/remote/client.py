# SPDX-License-Identifier: Apache-2.0
"""The policies behind a server, as slow policy, fast policy, policy in one piece and backend.

A question that is not answered in time, or whose server goes away, is an error of the policy: the
runtime starves and the arm finishes valid rows, brakes and holds. The connection is then closed, so
that a late answer is never read, and the next question looks for the server anew. A server that
comes back must serve the same policy and is told to begin as new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.clock import NS_PER_S
from vla_ros.errors import PolicyError, PolicyTimeoutError, VlaRosError
from vla_ros.policies.base import Tensors
from vla_ros.policies.remote.description import read_description
from vla_ros.policies.remote.link import Link, open_link
from vla_ros.policies.remote.messages import (
    Message,
    get_chunks,
    put_latent,
    put_observation,
    put_request,
)
from vla_ros.policies.remote.server import CHUNK, ERRORS, FAST, SLOW
from vla_ros.policies.routing.base import Answer
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

_LONGEST_NS = 3600 * NS_PER_S


class Asker:
    """Asks one part of a served policy.

    Args:
        link: the way to the server.
        part: slow, fast or chunk.
        limit_s: an answer that takes longer is given up.
        now_ns: reads the clock [ns].

    Attributes:
        last_timing: of the last answer; what is not the server's own time is waiting.
        transport_ns: that part of it [ns].
        about: what the policy said of itself with it.
        losses: how often the server was given up; what it was told before is forgotten.

    Thread-safety: one thread.
    """

    def __init__(
        self, link: Link, part: str, limit_s: float, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._link, self._part, self._limit_ns = link, part, round(limit_s * NS_PER_S)
        self._now_ns = now_ns
        self._number = 0
        self._description: Mapping[str, Any] | None = None
        self._is_known = False  # the server at the other end is the one that was described
        self._asked_ns: int | None = None  # None: nothing is asked
        self._sent_ns = 0
        self._todo: list[Message] = []  # to send once what was sent is answered
        self.last_timing: CallTiming | None = None
        self.transport_ns = 0
        self.about: Mapping[str, Any] = {}
        self.losses = 0

    @property
    def is_known(self) -> bool:
        """Whether the server that was described is still there, as far as can be seen."""
        return self._is_known and self._link.is_open

    def describe(self) -> Mapping[str, Any]:
        """Return what the server says of the policy."""
        if self._description is None:
            answer = self.ask("describe", {}, {})
            self._description = _without_number(answer)
            self._is_known = True
        return self._description

    def ask(self, kind: str, values: Mapping[str, Any], tensors: Tensors) -> Message:
        """Return the answer to a question.

        Raises:
            PolicyError: if there is no server, it fails, or it is another one than before.
            PolicyTimeoutError: if it takes too long.
        """
        self.begin(kind, values, tensors)
        return self.wait()

    def wait(self) -> Message:
        """Return the answer to what was begun; errors are those of ``ask``."""
        if self._asked_ns is None:
            raise PolicyError("nothing was asked")
        while True:
            answer = self.poll(wait_s=max(0.0, (self._limit_ns - self._waited_ns()) / NS_PER_S))
            if answer is not None:
                return answer

    def begin(self, kind: str, values: Mapping[str, Any], tensors: Tensors) -> None:
        """Send a question; what was asked before is given up."""
        self.abandon()
        question = Message(kind, values, tensors)
        if not self._link.is_open:
            self._lose()  # who comes back may be somebody else
        is_new = self._description is not None and not self._is_known
        self._todo = [Message("describe"), Message("reset"), question] if is_new else [question]
        self._asked_ns = self._now_ns()
        self._send_next()

    def poll(self, wait_s: float = 0.0) -> Message | None:
        """Return the answer, or None if there is none yet; errors are those of ``ask``."""
        while self._asked_ns is not None:
            answer = self._receive(wait_s)
            if answer is None:
                return None
            if answer.kind == "error":
                self._asked_ns = None
                values = answer.values
                kind = ERRORS.get(str(values.get("error")), PolicyError)
                raise kind(str(values.get("text", "the server failed and does not say why")))
            if not self._todo:
                self._asked_ns = None
                self._note(answer)
                return answer
            self._meet(answer)
            self._send_next()
        return None

    def abandon(self) -> None:
        """Expect no answer any more, also when it comes."""
        if self._asked_ns is not None:
            self._lose()

    def _receive(self, wait_s: float) -> Message | None:
        try:
            data = self._link.receive(wait_s)
            if data is None:
                if self._waited_ns() < self._limit_ns:
                    return None
                raise PolicyTimeoutError(
                    f"the policy server did not answer within {self._limit_ns / NS_PER_S:g} s"
                )
            answer = Message.from_bytes(data)
            if answer.values.get("number") != self._number:
                raise PolicyError("the server answered something that was not asked")
        except PolicyError:
            self._lose()
            raise
        return answer

    def _meet(self, answer: Message) -> None:
        """Make sure that who came back is who was there; it was told to begin as new."""
        if answer.kind == "described" and _without_number(answer) != self._description:
            self._lose()
            raise PolicyError(
                f"the server now has {answer.values.get('name')!r}, with other weights or "
                "abilities than what this was begun with"
            )
        self._is_known = len(self._todo) == 1

    def _send_next(self) -> None:
        question = self._todo.pop(0)
        self._number += 1
        values = {**question.values, "part": self._part, "number": self._number}
        self._sent_ns = self._now_ns()
        try:
            self._link.send(Message(question.kind, values, question.tensors).to_bytes())
        except VlaRosError:
            self._lose()
            raise

    def _note(self, answer: Message) -> None:
        if "timing" not in answer.values:
            return
        try:
            dict(answer.values.get("diagnostics", {}))
            took_ns = _duration_ns(answer.values["took_ns"])
            timing = answer.values["timing"].items()
            inside = CallTiming(**{part: _duration_ns(value) for part, value in timing})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._lose()
            raise PolicyError(
                f"what the server says of itself makes no sense: {error!r}"
            ) from error
        self.about = answer.values
        self.transport_ns = self._now_ns() - self._sent_ns - took_ns
        self.last_timing = replace(inside, queue_ns=inside.queue_ns + self.transport_ns)

    def _lose(self) -> None:
        self._asked_ns, self._is_known = None, False
        self.losses += 1
        self._todo.clear()
        self._link.close()

    def _waited_ns(self) -> int:
        return 0 if self._asked_ns is None else self._now_ns() - self._asked_ns


class RemotePart:
    """What all parts have in common: what the server says of its policy."""

    part = ""

    def __init__(self, link: Link | str, limit_s: float) -> None:
        way = open_link(link) if isinstance(link, str) else link
        self._asker = Asker(way, self.part, limit_s)
        described = read_description(self._asker.describe())
        self.described = described
        self.name = f"remote({described.name})"
        self.cameras = described.cameras
        self.latent_schema_hash = described.latent_schema_hash
        self.model_hash = described.model_hash
        self.latent_bytes = described.latent_bytes
        if described.capabilities is not None:
            self.capabilities = described.capabilities

    capabilities: PolicyCapabilities

    @property
    def asker(self) -> Asker:
        """What asks; whoever polls it does not call the policy at the same time."""
        return self._asker

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went; the way to and fro counts as waiting."""
        return self._asker.last_timing

    @property
    def transport_ns(self) -> int:
        """What the way to and fro took at the last call [ns]."""
        return self._asker.transport_ns

    @property
    def alarm(self) -> str:
        """What the policy said is wrong with it."""
        return str(self._asker.about.get("alarm", ""))

    def diagnostics(self) -> dict[str, float | str]:
        """Return what the policy said of itself with its last answer."""
        return dict(self._asker.about.get("diagnostics", {}))

    def reset(self) -> None:
        """Begin a new episode; a server that is not there begins as new when it comes back."""
        try:
            self._asker.ask("reset", {}, {})
        except PolicyError:
            self._asker.abandon()

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._asker.ask("check", {"instruction": instruction}, {})


class RemoteSlowPolicy(RemotePart):
    """A ``SlowPolicy`` behind a server.

    Args:
        link: the way to it, or its address.
        limit_s: an answer that takes longer is given up.

    Raises:
        PolicyError: if nobody is there.
    """

    part = SLOW

    def __init__(self, link: Link | str, limit_s: float = 10.0) -> None:
        super().__init__(link, limit_s)
        self.max_age_s = self.described.max_age_s

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent; errors are those of ``Asker.ask`` and of the policy."""
        return _own(self._asker.ask("encode", *put_observation(observation)))


class RemoteFastPolicy(RemotePart):
    """A ``FastPolicy`` behind a server; see ``RemoteSlowPolicy``."""

    part = FAST

    def __init__(self, link: Link | str, limit_s: float = 0.5) -> None:
        super().__init__(link, limit_s)
        self.chunk_rows = self.described.chunk_rows
        self.chunk_dt_ns = self.described.chunk_dt_ns

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the rows."""
        values, tensors = put_observation(observation)
        return self._ask("decode", latent, values | {"now_ns": now_ns}, tensors)[0]

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, the best one first."""
        values, tensors = put_request(request)
        return self._ask("decode_request", latent, values | {"now_ns": now_ns}, tensors)

    def _ask(
        self, kind: str, latent: Latent, values: Mapping[str, Any], tensors: Tensors
    ) -> tuple[ActionChunk, ...]:
        return chunks_of(self._asker.ask(kind, values, {**tensors, **put_latent(latent)}))


class RemoteChunkPolicy(RemotePart):
    """A ``ChunkPolicy`` behind a server; see ``RemoteSlowPolicy``."""

    part = CHUNK

    def __init__(self, link: Link | str, limit_s: float = 10.0) -> None:
        super().__init__(link, limit_s)

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks, the best one first."""
        return chunks_of(self._asker.ask("infer", *put_request(request)))


class RemoteBackend:
    """A ``routing.Backend``: a slow policy behind a server, asked now and answered later.

    ``poll`` never waits. A server that is killed is noticed at the next ``poll``.
    """

    def __init__(
        self,
        policy: RemoteSlowPolicy,
        uncertainty_of: Callable[[Tensors], float] | None = None,
    ) -> None:
        self._asker = policy.asker
        self._uncertainty_of = uncertainty_of
        self.name = policy.name

    def begin(self, observation: Observation, now_ns: int) -> None:
        """Ask; raises ``PolicyError`` if there is no server."""
        self._asker.begin("encode", *put_observation(observation))

    def poll(self, now_ns: int) -> Answer | None:
        """Return the answer, or None while there is none."""
        message = self._asker.poll()
        if message is None:
            return None
        tensors = _own(message)
        of = self._uncertainty_of
        return Answer(tensors, None if of is None else of(tensors), self._asker.last_timing)

    def abandon(self) -> None:
        """Expect no answer any more."""
        self._asker.abandon()


def _without_number(answer: Message) -> dict[str, Any]:
    return {name: value for name, value in answer.values.items() if name != "number"}


def _duration_ns(value: object) -> int:
    """Return a duration [ns] that a server says; raises ``ValueError`` if it is none."""
    if type(value) is not int or not 0 <= value <= _LONGEST_NS:
        raise ValueError(f"a duration must be 0 to {_LONGEST_NS} ns, got {value!r}")
    return value


def _own(answer: Message) -> Tensors:
    """Return the tensors as arrays that nothing else looks into."""
    return {name: np.array(value) for name, value in answer.tensors.items()}


def chunks_of(answer: Message) -> tuple[ActionChunk, ...]:
    """Return the chunks of an answer; raises ``PolicyError`` if it has none."""
    try:
        return get_chunks(answer.values["chunks"], answer.tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"the server answered no rows: {error!r}") from error
