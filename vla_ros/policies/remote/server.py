# SPDX-License-Identifier: Apache-2.0
"""Answers questions for a policy: one at a time, in the order they come, each once."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vla_ros.errors import InstructionError, PolicyError, StaleDataError, VlaRosError
from vla_ros.policies.around import answered, cameras_of, capabilities_of_fast, timing_of
from vla_ros.policies.base import (
    Capable,
    ChunkPolicy,
    FastPolicy,
    LatentContract,
    SlowPolicy,
)
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.remote.link import SocketLink
from vla_ros.policies.remote.messages import (
    Message,
    get_latent,
    get_observation,
    get_request,
    put_chunks,
)
from vla_ros.policies.timing import CallTiming

SLOW, FAST, CHUNK = "slow", "fast", "chunk"
ERRORS: dict[str, type[VlaRosError]] = {
    e.__name__: e for e in (PolicyError, InstructionError, StaleDataError)
}
_REQUEST_S = 5.0


class PolicyServer:
    """Turns questions into answers; knows nothing of sockets.

    Args:
        slow, fast, chunk: the parts of the policy that are served.
        now_ns: reads the clock [ns], for durations.

    Thread-safety: one thread.
    """

    def __init__(
        self,
        *,
        slow: SlowPolicy | None = None,
        fast: FastPolicy | None = None,
        chunk: ChunkPolicy | None = None,
        now_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._slow, self._fast, self._chunk = slow, fast, chunk
        self._parts: dict[str, Any] = {SLOW: slow, FAST: fast, CHUNK: chunk}
        self._now_ns = now_ns

    def answer(self, question: Message) -> Message:
        """Return the answer; an error of the policy is one, too."""
        try:
            return self._answer(question)
        except VlaRosError as error:
            name = type(error).__name__ if type(error).__name__ in ERRORS else "PolicyError"
            return Message("error", {"error": name, "text": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            return Message("error", {"error": "PolicyError", "text": f"not a question: {error!r}"})

    def _answer(self, question: Message) -> Message:
        values, tensors = question.values, question.tensors
        of = str(values["part"])
        policy = self._parts.get(of)
        if policy is None:
            raise PolicyError(f"this server has no {of} part")
        if question.kind == "describe":
            return Message("described", _describe(of, policy))
        if question.kind == "reset":
            policy.reset()
            return Message("done")
        if question.kind == "check":
            policy.check_instruction(values["instruction"])
            return Message("done")
        began_ns = self._now_ns()
        if question.kind == "encode" and self._slow is not None:
            found = self._slow.encode(get_observation(values, tensors))
            return Message("tensors", self._about(self._slow, began_ns), dict(found))
        if question.kind == "decode" and self._fast is not None:
            observation = get_observation(values, tensors)
            rows = self._fast.decode(get_latent(tensors), observation, values["now_ns"])
            return self._chunks((rows,), began_ns, self._fast)
        if question.kind == "decode_request" and self._fast is not None:
            request = get_request(values, tensors)
            chunks = answered(self._fast, get_latent(tensors), request, values["now_ns"])
            return self._chunks(chunks, began_ns, self._fast)
        if question.kind == "infer" and self._chunk is not None:
            return self._chunks(
                self._chunk.infer(get_request(values, tensors)), began_ns, self._chunk
            )
        raise PolicyError(f"a {of} part cannot be asked to {question.kind}")

    def _chunks(self, chunks: Any, began_ns: int, policy: object) -> Message:
        values, tensors = put_chunks(tuple(chunks))
        return Message("chunks", self._about(policy, began_ns) | {"chunks": values}, tensors)

    def _about(self, policy: object, began_ns: int) -> dict[str, Any]:
        took = CallTiming(compute_ns=self._now_ns() - began_ns)
        return {
            "timing": asdict(timing_of(policy) or took),
            "took_ns": took.compute_ns,
            "diagnostics": diagnostics_of(policy),
            "alarm": alarm_of(policy),
        }


def _describe(of: str, policy: Any) -> dict[str, Any]:
    contract = policy if isinstance(policy, LatentContract) else None
    able = policy.capabilities if isinstance(policy, Capable) else None
    if of == FAST:
        able = capabilities_of_fast(policy)
    return {
        "name": policy.name,
        "max_age_s": getattr(policy, "max_age_s", 0.0),
        "cameras": list(cameras_of(policy)),
        "chunk_rows": getattr(policy, "chunk_rows", 0),
        "chunk_dt_ns": getattr(policy, "chunk_dt_ns", 0),
        "capabilities": None if able is None else asdict(able),
        "latent_schema_hash": contract.latent_schema_hash if contract else 0,
        "model_hash": contract.model_hash if contract else 0,
        "latent_bytes": contract.latent_bytes if contract else 0,
    }


def serve(
    server_for: Callable[[], PolicyServer], listener: socket.socket, is_over: Callable[[], bool]
) -> None:
    """Answer until ``is_over``; clients come and go.

    ``server_for`` is asked at every connection: the same one again where clients share a policy,
    as the two halves of a runtime do. One question is answered at a time. A client that has left
    gets no answer, and one that sends what is no message is hung up on.
    """
    links: dict[socket.socket, tuple[PolicyServer, SocketLink]] = {}
    while not is_over():
        ready = select.select([listener, *links], [], [], 0.1)[0]
        for connection in ready:
            if connection is listener:
                accepted, _ = listener.accept()
                links[accepted] = (server_for(), SocketLink(accepted))
            elif not _serve_one(*links[connection]):
                links.pop(connection)[1].close()


def _serve_one(server: PolicyServer, link: SocketLink) -> bool:
    """Answer what has come; return whether the client is still there."""
    try:
        data = link.receive(_REQUEST_S)
        if data is None:
            return False
        question = Message.from_bytes(data)
        answer = server.answer(question)
        number = {"number": question.values.get("number", 0)}
        link.send(Message(answer.kind, {**answer.values, **number}, answer.tensors).to_bytes())
    except VlaRosError:
        return False
    return True
