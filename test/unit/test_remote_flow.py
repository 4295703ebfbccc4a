# SPDX-License-Identifier: Apache-2.0
"""Parents of a composed policy in processes of their own: the same rows; one may be killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from able_policy import LATENT
from composition_samples import STEPS, H, parents, request_of, table_of
from fake_link import FakeLink
from served_policies import PARENTS, SEED, ServerProcess
from strategy_samples import same

from vla_ros.chunking.strategies.base import GenerativePolicy, Guidance, Prefix
from vla_ros.chunking.strategies.denoising import guided_denoise, prefix_weights
from vla_ros.clock import ManualClock
from vla_ros.errors import PolicyError
from vla_ros.policies.composition.composed_flow import ComposedFlow
from vla_ros.policies.remote.client import Asker
from vla_ros.policies.remote.flow_client import RemoteFlow
from vla_ros.policies.remote.messages import put_request
from vla_ros.policies.remote.server import PolicyServer
from vla_ros.types import Latent

HERE = parents(table_of(SEED), SEED)


@pytest.fixture
def servers(tmp_path) -> Iterator[tuple[ServerProcess, ...]]:
    with (
        ServerProcess(PARENTS[0], f"unix:{tmp_path / 'a'}") as a,
        ServerProcess(PARENTS[1], f"unix:{tmp_path / 'b'}") as b,
    ):
        yield a, b


def composed_of(servers: tuple[ServerProcess, ...], weight: float = 0.5) -> ComposedFlow:
    a, b = (RemoteFlow(server.address, limit_s=10.0) for server in servers)
    return ComposedFlow(a, b, weight, names=PARENTS)


def test_parents_elsewhere_make_the_same_rows_bit_by_bit(servers) -> None:
    first = guided_denoise(HERE[0], request_of(1))
    prefix = Prefix(rows=first, frozen_len=3, weights=prefix_weights("exp", 3, 6, H))
    for weight in (0.0, 0.5, 1.0):
        there, here = composed_of(servers, weight), ComposedFlow(*HERE, weight)
        assert there.capabilities == here.capabilities
        for guidance in (Guidance.NONE, Guidance.TRAINED, Guidance.VJP):
            request = replace(request_of(2), guidance=guidance, prefix=prefix)
            assert same(guided_denoise(there, request), guided_denoise(here, request))
        assert there.lost == {}
        assert there.alarm == ""


@pytest.mark.parametrize("dead", [0, 1])
def test_after_a_kill_the_next_rows_are_those_of_the_other_parent(servers, dead: int) -> None:
    there = composed_of(servers)
    guided_denoise(there, request_of(1))
    servers[dead].kill()
    survivor = HERE[1 - dead]
    for seq in (2, 3):
        rows = guided_denoise(there, request_of(seq))
        assert same(rows, guided_denoise(survivor, request_of(seq)))
    assert there.weight_in_force == 1.0 - dead
    assert there.alarm.startswith(f"{PARENTS[dead]} is not asked any more: ")
    assert there.alarm.endswith(f"; {PARENTS[1 - dead]} is the policy")
    said = there.diagnostics()
    assert said["composition_weight_in_force"] == 1.0 - dead
    assert f"composition_lost_{PARENTS[dead]}" in said
    servers[dead].start()
    there.revive()  # who comes back has no memory of the request, and is told
    again = request_of(4)
    assert same(guided_denoise(there, again), guided_denoise(ComposedFlow(*HERE), again))
    assert there.alarm == ""


@pytest.mark.parametrize("dead", [0, 1])
def test_a_kill_between_two_denoising_steps_ends_in_the_other_parents_steps(
    servers, dead: int
) -> None:
    there, request = composed_of(servers), request_of(1)
    x = there.noise(request)
    x = x + there.velocity(x, 0.0, request) / STEPS
    servers[dead].kill()
    t = 1.0 / STEPS
    assert np.array_equal(there.velocity(x, t, request), HERE[1 - dead].velocity(x, t, request))
    assert same(there.from_model(x, request), HERE[1 - dead].from_model(x, request))
    assert list(there.lost) == [PARENTS[dead]]


def test_with_both_killed_there_is_an_error(servers) -> None:
    there = composed_of(servers)
    for server in servers:
        server.kill()
    with pytest.raises(PolicyError, match=r"no policy is left; obstacle: .*; goal: "):
        guided_denoise(there, request_of())


def linked(policy: GenerativePolicy) -> tuple[RemoteFlow, FakeLink]:
    link = FakeLink(PolicyServer(flow=policy), ManualClock())
    return RemoteFlow(link), link


def test_an_observation_goes_there_once_per_inference() -> None:
    there, link = linked(HERE[0])
    guided_denoise(there, request_of(1))
    guided_denoise(there, request_of(2))
    asked = [message for message in link.asked if message.kind != "describe"]
    assert len(asked) == 2 * (1 + STEPS + 1)
    assert [k for k, m in enumerate(asked) if "request" in m.values] == [0, STEPS + 2]
    assert set(asked[1].tensors) == {"x"}


def test_both_are_asked_before_either_answer_is_waited_for() -> None:
    order: list[str] = []

    class Noted(FakeLink):
        def __init__(self, name: str, policy: GenerativePolicy) -> None:
            super().__init__(PolicyServer(flow=policy), ManualClock())
            self.name = name

        def send(self, data: bytes) -> None:
            order.append(f"ask {self.name}")
            super().send(data)

        def receive(self, wait_s: float) -> bytearray | None:
            order.append(f"hear {self.name}")
            return super().receive(wait_s)

    a, b = (RemoteFlow(Noted(name, policy)) for name, policy in zip("ab", HERE, strict=True))
    composed, request = ComposedFlow(a, b), request_of()
    x = composed.noise(request)
    order.clear()
    composed.velocity(x, 0.5, request)
    assert order == ["ask a", "ask b", "hear a", "hear b"]


class Shifted:
    """A flow policy that needs a latent, and moves its rows by it."""

    n_denoising_steps = STEPS
    name = "shifted"

    def __init__(self, latent: Latent | None = None) -> None:
        self.by = None if latent is None else float(latent.tensors["goal"][0])
        self.to_model, self.from_model = HERE[0].to_model, HERE[0].from_model
        self.noise = HERE[0].noise

    def given(self, latent: Latent) -> Shifted:
        return Shifted(latent)

    def velocity(self, x, t, request):
        assert self.by is not None
        return HERE[0].velocity(x, t, request) + self.by


def test_a_latent_goes_along_with_the_request() -> None:
    there, link = linked(Shifted())
    assert there.name == "remote(shifted)"
    latents = [Latent(tensors={"goal": np.array([v])}, stamp=LATENT.stamp) for v in (0.5, 0.25)]
    request = request_of()
    for latent in latents:
        here = guided_denoise(Shifted(latent), request)
        assert same(guided_denoise(there.given(latent), request), here)
    assert sum("request" in message.values for message in link.asked) == 2
    plain, _ = linked(HERE[0])
    with pytest.raises(PolicyError, match="takes no latent"):
        plain.given(latents[0]).noise(request)


def test_questions_that_make_no_sense_are_answered_by_errors() -> None:
    asker = Asker(FakeLink(PolicyServer(flow=HERE[0]), ManualClock()), "flow", 1.0)
    values, tensors = put_request(request_of())
    about = {f"request/{name}": array for name, array in tensors.items()}
    with pytest.raises(PolicyError, match="nothing is known here of this inference"):
        asker.ask("noise", {"inference": "1"}, {})
    asker.ask("noise", {"inference": "1", "request": values}, about)
    with pytest.raises(PolicyError, match="cannot be asked to fly"):
        asker.ask("fly", {"inference": "1", "t": 0.0}, {"x": np.zeros((H, 7))})
    for wrong in ({"t": "soon"}, {"t": None}, {}):
        with pytest.raises(PolicyError):
            asker.ask("velocity", {"inference": "1", **wrong}, {"x": np.zeros((H, 7))})
    with pytest.raises(PolicyError):
        asker.ask("velocity", {"inference": "1", "t": 0.5}, {"x": np.zeros((2, 2))})
    for k in range(20):  # others come and go
        asker.ask("noise", {"inference": f"other {k}", "request": values}, about)
    with pytest.raises(PolicyError, match="nothing is known here"):
        asker.ask("noise", {"inference": "1"}, {})


def test_what_a_policy_was_not_trained_for_is_an_error() -> None:
    there, _ = linked(Shifted())
    with pytest.raises(PolicyError, match="not trained to continue a prefix"):
        there.prefix_velocity(np.zeros((H, 7)), 0.0, 2, request_of())


def test_a_broken_policy_is_an_error_of_the_policy() -> None:
    class Wrong(Shifted):
        def velocity(self, x, t, request):
            raise AttributeError("a bug")

    there, _ = linked(Wrong())
    with pytest.raises(PolicyError, match="a bug"):
        there.velocity(np.zeros((H, 7)), 0.0, request_of())
