# SPDX-License-Identifier: Apache-2.0
"""A policy server killed in the middle of a motion: the arm holds, and goes on when it is back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("mujoco")

from hooked_arm import ArmWorld, arm_at_home
from host_rig import HostRig, speed
from policy_stubs import DECODERS
from served_policies import ServerProcess

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.base import FastPolicy
from vla_ros.policies.conformance.subject import SplitBackend
from vla_ros.policies.remote.client import RemoteFastPolicy
from vla_ros.types import ActionChunk, ControlMode, Latent

pytestmark = pytest.mark.sim

SPLIT = sorted(name for name, of in DECODERS.items() if isinstance(of, SplitBackend))
BEFORE, DEAD, AFTER = 20, 30, 30
PERIOD_NS = 33_000_000


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Iterator[HostRig]:
    with arm_at_home(tmp_path_factory.mktemp("scene")) as rig:
        yield rig


class Asked:
    """Remembers what a policy was asked and what it said."""

    def __init__(self, policy: RemoteFastPolicy) -> None:
        self._policy = policy
        self.name = policy.name
        self.chunk_rows, self.chunk_dt_ns = policy.chunk_rows, policy.chunk_dt_ns
        self.capabilities = policy.capabilities
        self.calls: list[tuple[Latent, InferenceRequest, int, ActionChunk]] = []

    def decode(self, latent, observation, now_ns):
        raise AssertionError("it answers requests")

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        chunks = self._policy.decode_request(latent, request, now_ns)
        self.calls.append((latent, request, now_ns, chunks[0]))
        return chunks

    def reset(self) -> None:
        self._policy.reset()


def seen_at(goal: np.ndarray) -> dict[str, np.ndarray]:
    return {"goal": goal.astype(np.float32), "step": np.ones(1, np.int64)}


def said(policy: FastPolicy, calls: list) -> list[np.ndarray]:
    """What a policy in this process says to the same."""
    return [
        policy.decode(latent, request.observation, now_ns).positions
        for latent, request, now_ns, _ in calls
    ]


def same(found: list[np.ndarray], calls: list) -> bool:
    pairs = zip(found, calls, strict=True)
    return all(np.array_equal(a, call[3].positions) for a, call in pairs)


@pytest.mark.parametrize("kind", SPLIT)
def test_a_restart_in_the_middle_leaves_the_actions_as_they_are(
    rig: HostRig, kind: str, tmp_path
) -> None:
    rig.plant.request_reset(rig.home)
    rig.now_ns = rig.host.run_ticks(rig.now_ns, 700)
    address = f"unix:{tmp_path / 'policy'}"
    late_before = rig.host.counters()["rows_after_expiry"]
    with ServerProcess(kind, address) as server:
        asked = Asked(RemoteFastPolicy(address, limit_s=10.0))
        world = ArmWorld(rig, asked, PERIOD_NS)
        seen = seen_at(world.position + np.array([0.06, 0.05, -0.05]))
        for _ in range(BEFORE):
            assert world.step(seen).segment is not None
        assert same(said(DECODERS[kind].make_fast(), asked.calls), asked.calls)
        server.kill()
        n_before = len(asked.calls)
        for _ in range(DEAD):
            assert world.step(seen).segment is None
        assert len(asked.calls) == n_before
        held = rig.host.state()
        assert held["mode"] == ControlMode.HOLD  # braked and at rest, not where rows would end
        assert speed(held) < 0.01
        server.start()
        place = world.position
        seen = seen_at(place + np.array([-0.06, -0.05, 0.05]))
        # The next step has rows again, of what is seen now.
        for k in range(AFTER):
            result = world.step(seen)
            assert result.segment is not None, result.starved_reason
            if k == 0:
                assert result.segment.target_ns[0] >= rig.now_ns - PERIOD_NS
        resumed = asked.calls[n_before:]
        assert same(said(DECODERS[kind].make_fast(), resumed), resumed)
        assert rig.host.state()["mode"] == ControlMode.TRACK
        # Where to is the decoder's affair; these know nothing of a hand that points down.
        assert np.linalg.norm(world.positions[-AFTER:] - place, axis=1).max() > 0.01
    assert rig.host.counters()["rows_after_expiry"] == late_before
