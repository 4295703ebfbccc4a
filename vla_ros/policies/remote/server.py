# SPDX-License-Identifier: Apache-2.0
"""Answers questions for a policy: of each of its parts one at a time, in the order they come."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vla_ros.chunking.strategies.base import GenerativePolicy
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
from vla_ros.policies.remote.description import Description
from vla_ros.policies.remote.flow_server import ServedFlow
from vla_ros.policies.remote.link import SocketLink, check_length
from vla_ros.policies.remote.messages import (
    Message,
    get_latent,
    get_observation,
    get_request,
    put_chunks,
)
from vla_ros.policies.timing import CallTiming

SLOW, FAST, CHUNK, FLOW = "slow", "fast", "chunk", "flow"
ERRORS: dict[str, type[VlaRosError]] = {
    e.__name__: e for e in (PolicyError, InstructionError, StaleDataError)
}
_LOOK_S = 0.1


class PolicyServer:
    """Turns questions into answers; knows nothing of sockets and services.

    Args:
        slow, fast, chunk: the parts of the policy that are served.
        flow: a flow policy that is asked for single denoising steps.
        now_ns: reads the clock [ns], for durations.

    Thread-safety: any; questions to one part wait for each other, not for those to another.
    """

    def __init__(
        self,
        *,
        slow: SlowPolicy | None = None,
        fast: FastPolicy | None = None,
        chunk: ChunkPolicy | None = None,
        flow: GenerativePolicy | None = None,
        now_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._slow, self._fast, self._chunk = slow, fast, chunk
        self._flow = None if flow is None else ServedFlow(flow)
        self._parts: dict[str, Any] = {SLOW: slow, FAST: fast, CHUNK: chunk, FLOW: self._flow}
        self._locks = {part: threading.Lock() for part in self._parts}
        self._now_ns = now_ns

    def answer(self, question: Message) -> Message:
        """Return the answer; an error of the policy is one, too."""
        try:
            with self._locks[question.values["part"]]:
                return self._answer(question)
        except VlaRosError as error:
            name = type(error).__name__ if type(error).__name__ in ERRORS else "PolicyError"
            return Message("error", {"error": name, "text": str(error)})
        except Exception as error:  # a bad question, or a bug of the policy: others are served on
            text = f"not a question, or the policy is broken: {error!r}"
            return Message("error", {"error": "PolicyError", "text": text})

    def reply(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the bytes of the answer to those of a question.

        Raises:
            PolicyError: if they are none, or the answer is longer than any may be.
        """
        question = Message.from_bytes(data)
        answer = self.answer(question)
        values = {**answer.values, "number": question.values.get("number", 0)}
        reply = Message(answer.kind, values, answer.tensors).to_bytes()
        check_length(len(reply))
        return reply

    def _answer(self, question: Message) -> Message:
        values, tensors = question.values, question.tensors
        of = str(values["part"])
        policy = self._parts.get(of)
        if policy is None:
            raise PolicyError(f"this server has no {of} part")
        if question.kind == "describe":
            return Message("described", asdict(_describe(of, policy)))
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
        if of == FLOW and self._flow is not None:
            said, arrays = self._flow.answer(question.kind, values, dict(tensors))
            return Message("flow", self._about(self._flow, began_ns) | said, arrays)
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


def _describe(of: str, policy: Any) -> Description:
    contract = policy if isinstance(policy, LatentContract) else None
    able = policy.capabilities if isinstance(policy, Capable) else None
    if of == FAST:
        able = capabilities_of_fast(policy)
    return Description(
        name=policy.name,
        max_age_s=getattr(policy, "max_age_s", 0.0),
        cameras=cameras_of(policy),
        chunk_rows=getattr(policy, "chunk_rows", 0),
        chunk_dt_ns=getattr(policy, "chunk_dt_ns", 0),
        n_denoising_steps=getattr(policy, "n_denoising_steps", 0),
        capabilities=able,
        latent_schema_hash=contract.latent_schema_hash if contract else 0,
        model_hash=contract.model_hash if contract else 0,
        latent_bytes=contract.latent_bytes if contract else 0,
    )


def serve(
    server_for: Callable[[], PolicyServer], listener: socket.socket, is_over: Callable[[], bool]
) -> None:
    """Answer until ``is_over``; clients come and go, each has a thread.

    ``server_for`` is asked at every connection: the same one again where clients share a policy,
    as the two halves of a runtime do. A client that has left gets no answer, and one that sends
    what is no message is hung up on.
    """
    while not is_over():
        if select.select([listener], [], [], _LOOK_S)[0]:
            link = SocketLink(listener.accept()[0])
            threading.Thread(
                target=_converse, args=(server_for(), link, is_over), daemon=True
            ).start()


def _converse(server: PolicyServer, link: SocketLink, is_over: Callable[[], bool]) -> None:
    """Answer one client until it has left."""
    try:
        while not is_over():
            data = link.receive(_LOOK_S)
            if data is None:
                continue
            link.send(server.reply(data))
    except VlaRosError:
        return  # it has left, or does not speak our language
    finally:
        link.close()
