# SPDX-License-Identifier: Apache-2.0
"""A policy in another process: the same actions, errors and abilities; nothing of a dead server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from able_policy import LATENT, AbleFast, prefix_of, request
from fake_link import FakeLink
from policy_stubs import CAMERA, DECODERS, SAMPLES, BlobSlow, observations
from served_policies import READY, ServerProcess, remote, rows_of

from vla_ros.chunking.strategies.base import Guidance
from vla_ros.clock import ManualClock
from vla_ros.errors import ConfigError, InstructionError, PolicyError, PolicyTimeoutError
from vla_ros.policies.conformance.checks import CHECKS
from vla_ros.policies.conformance.subject import Subject
from vla_ros.policies.conformance.suite import check_backend
from vla_ros.policies.registry import make_fast_policy, make_slow_policy, resolve_policy_name
from vla_ros.policies.remote import link
from vla_ros.policies.remote.client import (
    Asker,
    RemoteChunkPolicy,
    RemoteFastPolicy,
    RemoteSlowPolicy,
)
from vla_ros.policies.remote.description import read_description
from vla_ros.policies.remote.link import SocketLink, listen, parse_address
from vla_ros.policies.remote.messages import (
    Message,
    get_latent,
    get_observation,
    get_request,
    put_latent,
    put_observation,
    put_request,
)
from vla_ros.policies.remote.server import PolicyServer
from vla_ros.policies.remote.service_address import ServiceAddress, parse_service
from vla_ros.policies.timing import CallTiming

assert READY


def free_address(kind: str, folder: Path) -> str:
    if kind == "unix":
        return f"unix:{folder / 'policy'}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp:127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module", params=DECODERS)
def served(request, tmp_path_factory) -> Iterator[tuple[Subject, str]]:
    address = free_address("unix", tmp_path_factory.mktemp("served"))
    with ServerProcess(request.param, address):
        yield DECODERS[request.param], address


@pytest.mark.parametrize("check", CHECKS)
def test_every_decoder_passes_every_check_behind_a_socket(served, check: str) -> None:
    local, address = served
    report = check_backend(remote(local, address), SAMPLES, only=[check])
    assert report.passed, report.text()


def test_actions_are_the_same_to_the_last_bit(served) -> None:
    local, address = served
    for here, there in zip(rows_of(local), rows_of(remote(local, address)), strict=True):
        assert np.array_equal(here, there)


def test_by_tcp_they_are_the_same_too(tmp_path) -> None:
    address = free_address("tcp", tmp_path)
    with ServerProcess("flow", address):
        there = rows_of(remote(DECODERS["flow"], address))
    assert all(np.array_equal(a, b) for a, b in zip(rows_of(DECODERS["flow"]), there, strict=True))


def test_errors_are_those_of_the_policy(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    with ServerProcess("flow", address):
        slow = RemoteSlowPolicy(address)
        blind = replace(observations()[0], frames={})
        with pytest.raises(PolicyError, match=CAMERA):
            slow.encode(blind)
        assert slow.encode(observations()[0])  # and the server goes on
        with pytest.raises(PolicyError, match="no chunk part"):
            RemoteChunkPolicy(address)


def test_after_a_kill_the_policy_fails_and_a_restarted_server_is_met_anew(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    local = DECODERS["flow"].start()
    with ServerProcess("flow", address) as server:
        slow, fast = RemoteSlowPolicy(address), RemoteFastPolicy(address)
        session = type(local)(slow, fast)
        session.answer(observations()[0])
        server.kill()
        for _ in range(2):
            with pytest.raises(PolicyError):
                session.answer(observations()[0])
        server.start()
        # Who never called in between notices as well; a restarted policy answers as a new one.
        for observation in observations():
            there, here = session.answer(observation), local.answer(observation)
            assert np.array_equal(there.positions, here.positions)


def test_another_policy_at_the_same_address_is_refused(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    with ServerProcess("flow", address) as server:
        fast = RemoteFastPolicy(address)
        server.kill()
    with ServerProcess("energy", address), pytest.raises(PolicyError, match="other weights"):
        fast.decode(LATENT, observations()[0], 0)


def test_an_answer_that_comes_too_late_is_never_read(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    with ServerProcess("late", address):
        policy = RemoteChunkPolicy(address, limit_s=0.05)
        asked = request(observation=observations()[0])
        with pytest.raises(PolicyTimeoutError, match=r"0\.05"):
            policy.infer(asked)
        patient = RemoteChunkPolicy(address, limit_s=30.0)
        later = replace(asked, target0_ns=asked.target0_ns + 1_000_000)
        assert patient.infer(later)[0].target0_ns == later.target0_ns


def test_the_way_counts_as_waiting_and_the_policys_own_times_stay() -> None:
    clock = ManualClock()
    server = PolicyServer(fast=AbleFast(), now_ns=clock.now_ns)
    asker = Asker(FakeLink(server, clock), "fast", 1.0, clock.now_ns)
    asker.describe()
    values, tensors = put_request(request())
    asker.ask("decode_request", values | {"now_ns": 0}, {**tensors, **put_latent(LATENT)})
    assert asker.transport_ns == 2_000_000
    assert asker.last_timing == CallTiming(
        pre_ns=3, queue_ns=5 + 2_000_000, compute_ns=7, post_ns=11
    )


def test_an_answer_to_another_question_is_not_taken() -> None:
    clock = ManualClock()
    link = FakeLink(PolicyServer(fast=AbleFast(), now_ns=clock.now_ns), clock)
    asker = Asker(link, "fast", 1.0, clock.now_ns)
    asker.describe()
    link.number_offset = -1
    with pytest.raises(PolicyError, match="not asked"):
        asker.ask("reset", {}, {})
    assert link.is_closed


def test_polling_gives_up_at_the_limit() -> None:
    clock = ManualClock()
    link = FakeLink(PolicyServer(fast=AbleFast(), now_ns=clock.now_ns), clock)
    asker = Asker(link, "fast", 0.1, clock.now_ns)
    asker.describe()
    link.is_deaf = True
    asker.begin("reset", {}, {})
    assert asker.poll() is None
    clock.advance(100_000_000)
    with pytest.raises(PolicyTimeoutError, match=r"0\.1 s"):
        asker.poll()
    assert asker.poll() is None  # nothing is asked any more


def test_observations_requests_and_latents_survive_the_way() -> None:
    observation = observations()[0]
    depth = np.ones(observation.frames[CAMERA].rgb.shape[:2], np.float32)
    frame = replace(observation.frames[CAMERA], depth_m=depth)
    asked = request(
        observation=replace(observation, frames={CAMERA: frame}),
        prefix=prefix_of(np.ones((8, 3))),
        guidance=Guidance.VJP,
        is_projected=True,
        delay_assumed_ns=7,
    )
    sent = Message("x", *put_request(asked)).to_bytes()
    message = Message.from_bytes(sent)
    assert repr(get_request(message.values, message.tensors)) == repr(asked)
    message = Message.from_bytes(Message("x", *put_observation(observation)).to_bytes())
    assert repr(get_observation(message.values, message.tensors)) == repr(observation)
    assert get_latent(put_latent(LATENT)).stamp == LATENT.stamp


@pytest.mark.parametrize("data", [b"", b"nonsense" * 20, Message("x").to_bytes()[:-1]])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(PolicyError, match="not a message"):
        Message.from_bytes(data)


def test_questions_that_make_no_sense_are_answered_by_errors() -> None:
    server = PolicyServer(fast=AbleFast())
    for question in (
        Message("encode", {"part": "fast"}),
        Message("decode", {"part": "fast"}),
        Message("decode", {"part": "slow"}),
        Message("nothing", {}),
    ):
        assert server.answer(question).kind == "error"


def test_a_fast_half_does_not_wait_for_the_slow_one_of_the_same_server() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(BlobSlow):
        def encode(self, observation):
            begun.set()
            assert go_on.wait(30.0)
            return super().encode(observation)

    server = PolicyServer(slow=Waiting(), fast=AbleFast())
    values, tensors = put_observation(observations()[0])
    slow = Message("encode", {**values, "part": "slow"}, tensors)
    answers: list[Message] = []
    thread = threading.Thread(target=lambda: answers.append(server.answer(slow)))
    thread.start()
    assert begun.wait(30.0)
    assert server.answer(Message("describe", {"part": "fast"})).kind == "described"
    assert answers == []
    go_on.set()
    thread.join()
    assert answers[0].kind == "tensors"


def test_instructions_that_are_not_understood_say_so() -> None:
    class Picky(AbleFast):
        def check_instruction(self, instruction: str) -> None:
            raise InstructionError("say something else")

    clock = ManualClock()
    asker = Asker(FakeLink(PolicyServer(fast=Picky()), clock), "fast", 1.0, clock.now_ns)
    with pytest.raises(InstructionError, match="something else"):
        asker.ask("check", {"instruction": "?"}, {})


def test_addresses() -> None:
    assert parse_address("unix:/tmp/x")[1] == "/tmp/x"
    assert parse_address("tcp:localhost:80")[1] == ("localhost", 80)
    for wrong in ("", "unix:", "tcp:host", "tcp:host:99999", "http://x"):
        with pytest.raises(ConfigError, match="address"):
            parse_address(wrong)
    assert resolve_policy_name("remote:unix:/tmp/x") == "remote:unix:/tmp/x"
    with pytest.raises(ConfigError, match="address"):
        resolve_policy_name("remote:nowhere")


def test_addresses_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_service("ros:/a/b@7") == ServiceAddress("/a/b", 7)
    assert parse_service("ros:/policy", {}) == ServiceAddress("/policy", 0)
    assert parse_service("ros:/policy", {"ROS_DOMAIN_ID": "12"}).domain == 12
    # A run has a domain of its own: its processes are told that of whoever named the policy.
    monkeypatch.setenv("ROS_DOMAIN_ID", "12")
    assert resolve_policy_name("remote:ros:/policy") == "remote:ros:/policy@12"
    for wrong in ("ros:", "ros:policy", "ros:/", "ros:/a//b", "ros:/1a", "ros:/a b"):
        with pytest.raises(ConfigError, match="ros:/<name>"):
            resolve_policy_name(f"remote:{wrong}")
    for wrong in ("ros:/a@", "ros:/a@-1", "ros:/a@233", "ros:/a@x", "ros:/a@" + "1" * 5000):
        with pytest.raises(ConfigError, match="0 to 232"):
            parse_service(wrong)


def test_a_service_without_ros_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_openers", {})
    with pytest.raises(ConfigError, match="register_links"):
        make_slow_policy("remote:ros:/policy")


def test_a_left_over_socket_is_replaced_and_a_living_server_is_not(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    with listen(address), pytest.raises(ConfigError, match="another server"):
        listen(address)
    listen(address).close()


def test_a_message_longer_than_allowed_ends_the_connection() -> None:
    here, there = socket.socketpair()
    link = SocketLink(here)
    there.sendall((1 << 40).to_bytes(8, "little"))
    with pytest.raises(PolicyError, match="at most"):
        link.receive(1.0)
    assert not link.is_open
    there.close()


def test_policies_by_the_address_of_their_server(tmp_path) -> None:
    address = free_address("unix", tmp_path)
    with pytest.raises(PolicyError, match="no policy server"):
        make_slow_policy(f"remote:{address}")
    with ServerProcess("flow", address):
        assert make_slow_policy(f"remote:{address}").name == "remote(blob)"
        assert make_fast_policy(f"remote:{address}").chunk_rows == 8


def described(**changes):
    """What a server says, as it comes out of the message, with something else in its place."""
    server = PolicyServer(fast=AbleFast(), now_ns=ManualClock().now_ns)
    answer = server.answer(Message("describe", {"part": "fast"}))
    values = dict(Message.from_bytes(answer.to_bytes()).values)
    for name, value in changes.items():
        is_able = name in values["capabilities"] or name == "wings"
        (values["capabilities"] if is_able else values)[name] = value
    return values


def test_what_a_server_says_of_its_policy_is_read_as_it_was_meant() -> None:
    read = read_description(described())
    assert read.capabilities == AbleFast().capabilities
    assert read.chunk_rows == AbleFast().chunk_rows
    assert read_description(described(capabilities=None)).capabilities is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"execution_rows": "many"}, "description: capabilities: execution_rows must be int"),
        ({"execution_rows": 1000}, "execution_rows must be 0 to"),
        ({"execution_rows": -1}, "execution_rows must be 0 to"),
        ({"horizon": 0}, "horizon must be 1 to 1000"),
        ({"horizon": 16.5}, "horizon must be int"),
        ({"dt_ns": float("nan")}, "dt_ns must be int"),
        ({"is_guided": 1}, "is_guided must be bool"),
        ({"n_candidates": 10**9}, "n_candidates must be 1 to 256"),
        ({"wings": 2}, "unknown key 'wings'"),
        ({"capabilities": [1]}, "capabilities must be a mapping"),
        ({"capabilities": {}}, "horizon or dt_ns is missing"),
        ({"chunk_rows": 10**9}, "chunk_rows must be 0 to 1000"),
        ({"chunk_dt_ns": True}, "chunk_dt_ns must be int"),
        ({"max_age_s": float("inf")}, "max_age_s must be 0.0 to"),
        ({"model_hash": -1}, "model_hash must be 0 to"),
        ({"latent_bytes": 2**40}, "latent_bytes must be 0 to"),
        ({"name": None}, "name must be str"),
        ({"cameras": "front"}, "cameras must be a list of names"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_in_it_is_refused_with_name_and_range(changes, message) -> None:
    with pytest.raises(PolicyError, match=message):
        read_description(described(**changes))


class Says(PolicyServer):
    """A server that says something else of itself than is so."""

    def __init__(self, **says: object) -> None:
        super().__init__(fast=AbleFast(), now_ns=ManualClock().now_ns)
        self._says = says

    def answer(self, question: Message) -> Message:
        answer = super().answer(question)
        if question.kind == "describe":
            return answer
        values = {**answer.values, **self._says}
        kept = {name: value for name, value in values.items() if value is not None}
        return Message(str(kept.pop("kind", answer.kind)), kept, answer.tensors)


@pytest.mark.parametrize(
    "says",
    [
        {"took_ns": None},
        {"took_ns": "long"},
        {"took_ns": -5},
        {"took_ns": float("inf")},
        {"took_ns": 10**30},
        {"timing": {"compute_ns": "long"}},
        {"timing": {"lunch_ns": 1}},
        {"timing": [1, 2]},
        {"diagnostics": 5},
        {"chunks": 7},
        {"chunks": [{"target0_ns": 0}]},
        {"kind": "error", "error": None},
        {"kind": "error", "error": ["?"]},
    ],
    ids=str,
)
def test_an_answer_that_makes_no_sense_is_a_failure_of_the_policy(says: dict[str, object]) -> None:
    clock = ManualClock()
    fast = RemoteFastPolicy(FakeLink(Says(**says), clock))
    with pytest.raises(PolicyError):
        fast.decode(LATENT, observations()[0], 0)
    assert fast.last_timing is None or fast.last_timing.total_ns >= 0
