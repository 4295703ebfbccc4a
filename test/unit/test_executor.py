# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from admission_samples import state

from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ActionChunk, Latent

MS = 1_000_000
NOW = 10_000 * MS


class StraightOn:
    """A fast policy: on from the reference, with the twist it is told."""

    name = "straight"
    chunk_rows = 16
    chunk_dt_ns = 33 * MS

    def __init__(self) -> None:
        self.twists: list[np.ndarray] = []
        self.resets = 0
        self.value = 0.0

    def reset(self) -> None:
        self.resets += 1

    def decode(self, latent, observation, now_ns) -> ActionChunk:
        if np.isinf(self.value):
            raise PolicyError("no idea")
        self.twists.append(observation.state.twist_ref_base)
        rows = np.outer(np.arange(16) * 0.033, observation.state.twist_ref_base[:3]) + self.value
        return ActionChunk(
            target0_ns=now_ns,
            dt_ns=self.chunk_dt_ns,
            positions=rows,
            quats_xyzw=np.tile([0.0, 0.0, 0.0, 1.0], (16, 1)),
            gripper_width_m=np.zeros(16),
        )


class Fast:
    def __init__(self) -> None:
        self.policy, self.buffer = StraightOn(), LatentBuffer()
        self.executor = ChunkExecutor(self.policy, self.buffer)
        self.context = BufferContext(episode_id=1, instruction_id=1)
        self.executor.set_context(self.context, NOW, None)

    def see(self, capture_ns, *, instruction=1, soft_ms=0, hard_ms=1000, **fields) -> None:
        stamp = LatencyStamp(
            kind=StampKind.LATENT,
            episode_id=1,
            instruction_id=instruction,
            capture_oldest_ns=capture_ns,
            soft_expire_ns=capture_ns + soft_ms * MS if soft_ms else 0,
            hard_expire_ns=capture_ns + hard_ms * MS,
            **fields,
        )
        self.buffer.offer(Latent(tensors={}, stamp=stamp), max(NOW, capture_ns))

    def step(self, now_ns=NOW, epoch=1, **motion):
        return self.executor.step(now_ns, state(**motion), "go", epoch)


@pytest.fixture
def fast() -> Fast:
    return Fast()


def test_segment_carries_the_expiries_of_its_latent(fast):
    fast.see(NOW - 100 * MS, soft_ms=600, clock_err_ns=7)
    segment = fast.step().segment
    assert segment.valid_until_ns == NOW + 900 * MS - 7
    assert segment.stamp.soft_expire_ns == NOW + 500 * MS


def test_one_latent_is_decoded_again_and_again_but_not_after_its_expiry(fast):
    fast.see(NOW - 100 * MS)
    for k in range(27):
        assert fast.step(NOW + k * 33 * MS).segment is not None
    late = fast.step(NOW + 901 * MS)
    assert late.segment is None
    assert "expired" in late.starved_reason


def test_policy_is_told_the_twist_of_the_rows_while_they_are_slowed(fast):
    fast.see(NOW - 500 * MS, soft_ms=200)
    fast.step(speed_m_s=0.3)
    scale = 1.0 - (500 - 200) / 800
    np.testing.assert_allclose(fast.policy.twists[-1][0], 0.3 / scale)
    fast.see(NOW - 20 * MS, soft_ms=200)
    fast.step(speed_m_s=0.3)
    assert fast.policy.twists[-1][0] == 0.3


def test_new_instruction_leaves_a_short_rest_and_asks_the_policy_anew(fast):
    fast.see(NOW - 100 * MS)
    fast.step()
    rest = fast.executor.set_context(
        dataclasses.replace(fast.context, instruction_id=2), NOW, state(0.15)
    )
    assert rest.valid_until_ns == NOW + 50 * MS
    assert fast.policy.resets == 2
    assert "no latent" in fast.step().starved_reason
    fast.see(NOW - 50 * MS, instruction=2)
    assert fast.step().segment.stamp.instruction_id == 2


def test_new_epoch_leaves_nothing_and_goes_on_under_it(fast):
    fast.see(NOW - 100 * MS)
    fast.step(epoch=1)
    assert fast.step(NOW + MS, epoch=2).segment.epoch == 2


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not finite"), (np.inf, "no idea")])
def test_bad_policy_starves_the_arm_with_a_reason(fast, value, reason):
    fast.see(NOW - 100 * MS)
    fast.policy.value = value
    result = fast.step()
    assert result.segment is None
    assert reason in result.starved_reason


def test_strategy_can_be_changed_while_it_runs(fast):
    fast.see(NOW - 100 * MS)
    fast.step()
    fast.executor.use("synchronous")
    asked = len(fast.policy.twists)
    steps = [fast.step(NOW + k * 33 * MS) for k in range(1, 10)]
    # The first step asks; the rows of that chunk are executed without asking again.
    assert len(fast.policy.twists) == asked + 1
    assert all(step.segment is not None for step in steps)
    assert steps[-1].segment.target_ns[-1] == steps[0].segment.target_ns[-1]
    fast.executor.use("timed")
    fast.step(NOW + 330 * MS)
    assert len(fast.policy.twists) == asked + 2


def test_strategy_that_the_policy_cannot_serve_is_refused(fast):
    with pytest.raises(ConfigError, match="rtc_vjp needs"):
        fast.executor.use("rtc_vjp")
    assert fast.executor.strategy_name == "timed"
