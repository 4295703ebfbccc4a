# SPDX-License-Identifier: Apache-2.0
"""A policy asked by a ROS 2 service: what holds of sockets holds here, with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

import rclpy
from able_policy import LATENT, request
from composition_samples import parents, request_of, table_of
from policy_stubs import DECODERS, observations
from rclpy.executors import SingleThreadedExecutor
from served_policies import PARENTS, SEED, ServerProcess, remote, rows_of
from strategy_samples import same

from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.errors import PolicyError, PolicyTimeoutError
from vla_ros.nodes.links import register_links
from vla_ros.nodes.policy_link import close_peers
from vla_ros.nodes.processes import run_environment, take_domain
from vla_ros.policies.registry import resolve_policy_name
from vla_ros.policies.remote.client import RemoteChunkPolicy, RemoteFastPolicy, RemoteSlowPolicy
from vla_ros.policies.remote.flow_client import RemoteFlow
from vla_ros.policies.remote.link import LARGEST_BYTES, check_length, open_link
from vla_ros.policies.remote.messages import Message

pytestmark = pytest.mark.ros
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    number, lock = take_domain()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in run_environment(number).items():
            environment.setenv(name, value)
        register_links()
        yield number
        # This process must not stay in a domain that tests after these will use.
        close_peers()
    lock.close()


def met(make: Callable[[], object], limit_s: float = LIMIT_S) -> object:
    """What is made of a server once it is found."""
    began = time.monotonic()
    while True:
        try:
            return make()
        except PolicyError:
            assert time.monotonic() - began < limit_s
            time.sleep(0.01)  # the threads of the middleware need the interpreter, too


@pytest.mark.parametrize("kind", ["flow", "image and action"])
def test_actions_are_the_same_to_the_last_bit(domain: int, kind: str) -> None:
    address = f"ros:/bits_{kind.replace(' ', '_')}@{domain}"
    part = RemoteChunkPolicy if kind == "image and action" else RemoteFastPolicy
    with ServerProcess(kind, address):
        met(lambda: part(address))
        there = rows_of(remote(DECODERS[kind], address))
    assert all(np.array_equal(a, b) for a, b in zip(rows_of(DECODERS[kind]), there, strict=True))


def test_after_a_kill_the_policy_fails_at_once_and_a_restarted_server_is_met_anew(
    domain: int,
) -> None:
    address = f"ros:/killed@{domain}"
    local = DECODERS["flow"].start()
    with ServerProcess("flow", address) as server:
        slow = met(lambda: RemoteSlowPolicy(address))
        fast = RemoteFastPolicy(address, limit_s=10.0)
        session = type(local)(slow, fast)
        session.answer(observations()[0])
        server.kill()
        for _ in range(3):
            with pytest.raises(PolicyError) as caught:
                session.answer(observations()[0])
            assert not isinstance(caught.value, PolicyTimeoutError)  # nobody waited for it
        server.start()
        # A restarted policy answers as a new one; who never called in between notices as well.
        there = met(lambda: session.answer(observations()[0]))
        assert np.array_equal(there.positions, local.answer(observations()[0]).positions)
        for observation in observations()[1:]:
            there, here = session.answer(observation), local.answer(observation)
            assert np.array_equal(there.positions, here.positions)
        server.kill()
    with ServerProcess("energy", address):
        met(lambda: RemoteFastPolicy(address))
        with pytest.raises(PolicyError, match="other weights"):
            fast.decode(LATENT, observations()[0], 0)


def test_bytes_that_are_no_question_are_answered_by_errors(domain: int) -> None:
    address = f"ros:/nonsense@{domain}"
    with ServerProcess("flow", address):
        slow = met(lambda: RemoteSlowPolicy(address))
        link = open_link(address)
        deep = Message("x").to_bytes().replace(b"{}", b"[[")
        for data in (b"nonsense" * 20, b"\0", Message("encode").to_bytes(), deep):
            link.send(data)
            reply = link.receive(LIMIT_S)
            assert reply is not None
            assert Message.from_bytes(reply).kind == "error"
        assert slow.encode(observations()[0])  # and the server goes on


def test_a_message_longer_than_allowed_does_not_leave() -> None:
    with pytest.raises(PolicyError, match="at most"):
        check_length(LARGEST_BYTES + 1)


def test_a_server_that_is_frozen_is_given_up_and_its_late_answer_never_read(domain: int) -> None:
    address = f"ros:/frozen@{domain}"
    with ServerProcess("flow", address) as server:
        slow = met(lambda: RemoteSlowPolicy(address, LIMIT_S))
        fast = RemoteFastPolicy(address, limit_s=0.05)
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(PolicyTimeoutError, match=r"0\.05"):
            fast.check_instruction("anything")
        with pytest.raises(PolicyError, match="silent") as caught:
            slow.encode(observations()[0])  # long before its limit
        assert not isinstance(caught.value, PolicyTimeoutError)
        os.kill(server.process.pid, signal.SIGCONT)
        answer = met(lambda: slow.encode(observations()[0]))
        assert answer["step"] == 1  # told to begin as new, after what it was asked while frozen


def test_a_callback_of_a_node_may_ask(domain: int) -> None:
    """The executor that runs it is not needed for the answer."""
    address = f"ros:/callback@{domain}"
    answers: list[object] = []
    with ServerProcess("flow", address):
        rclpy.init(domain_id=domain, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        node = rclpy.create_node("asker")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.create_timer(
                0.01, lambda: answers.append(met(lambda: RemoteSlowPolicy(address)).name)
            )
            deadline = time.monotonic() + LIMIT_S
            while not answers and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
    assert answers[0] == "remote(blob)"


def test_a_denoising_step_can_be_asked_for(domain: int) -> None:
    address = f"ros:/parent@{domain}"
    with ServerProcess(PARENTS[0], address):
        there = met(lambda: RemoteFlow(address, limit_s=10.0))
        rows = guided_denoise(there, request_of())
    assert same(rows, guided_denoise(parents(table_of(SEED), SEED)[0], request_of()))


def test_the_domain_of_a_name_is_that_of_who_says_it(domain: int) -> None:
    assert resolve_policy_name("remote:ros:/policy") == f"remote:ros:/policy@{domain}"
    assert resolve_policy_name("remote:ros:/a/b@7") == "remote:ros:/a/b@7"
    with pytest.raises(PolicyError, match=r"no policy server at ros:/nobody@"):
        RemoteChunkPolicy(f"ros:/nobody@{domain}").infer(request())
