# SPDX-License-Identifier: Apache-2.0
"""The residual after a black-box policy: what it mends, its bound, its end, the sum of terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hook_world import BIAS_M, LATENT, PERIOD_NS, ROWS, BiasedPolicy, World
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_samples import make_observation, random_chunk

from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.errors import PolicyError
from vla_ros.latency.buffer import BufferContext, LatentBuffer
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.fast_policy import HookedFastPolicy, PlainExpert, without_residual
from vla_ros.policies.hooks.residual import BoundedResidual, ResidualConfig
from vla_ros.policies.hooks.terms import moved
from vla_ros.report.statistics import mcnemar_p
from vla_ros.rotations import difference, exp
from vla_ros.types import Latent

MS = 1_000_000
N = 24
STEPS = 80


@pytest.fixture(scope="module")
def worlds() -> dict[float, list[World]]:
    """By gain of the residual, on the same seeds."""
    return {g: [World(seed, g).run(STEPS) for seed in range(N)] for g in (0.0, 1.0, -1.0)}


def test_a_residual_mends_the_bias_and_one_of_the_wrong_sign_makes_it_worse(
    worlds: dict[float, list[World]],
) -> None:
    solved = {gain: [w.is_solved for w in group] for gain, group in worlds.items()}
    rates = {gain: float(np.mean(values)) for gain, values in solved.items()}
    assert 0.1 < rates[0.0] < 0.6
    assert rates[1.0] >= rates[0.0] + 0.3
    assert mcnemar_p(solved[1.0], solved[0.0]) < 0.01
    assert rates[-1.0] < rates[0.0]
    error_m = {g: np.mean([w.error_m for w in group]) for g, group in worlds.items()}
    assert error_m[1.0] < 0.6 * error_m[0.0] < 0.6 * 0.6 * error_m[-1.0]


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_the_residual_never_leaves_its_bound(worlds: dict[float, list[World]], gain: float) -> None:
    bound_m = worlds[gain][0].config.bound_m
    found = np.array([rows.residual for w in worlds[gain] for rows in w.log])
    assert np.linalg.norm(found[..., :3], axis=-1).max() <= bound_m * (1 + 1e-12)
    assert np.linalg.norm(found[..., :3], axis=-1).max() > 0.7 * bound_m


def test_terms_sum_exactly_to_the_command(worlds: dict[float, list[World]]) -> None:
    for world in worlds[1.0][:5]:
        for rows, reference in zip(world.log, world.references, strict=True):
            added = rows.steering + rows.residual + rows.limit
            command = rows.command
            np.testing.assert_array_equal(command.positions, rows.base.positions + added[:, :3])
            np.testing.assert_array_equal(reference, command.positions[1])


def test_the_base_is_the_frozen_policy_whatever_the_residual_is(
    worlds: dict[float, list[World]],
) -> None:
    """It is shown its own path: the residual is not added to itself."""
    for with_residual, without in zip(worlds[1.0][:5], worlds[0.0][:5], strict=True):
        for ours, theirs in zip(with_residual.log, without.log, strict=True):
            np.testing.assert_allclose(ours.base.positions, theirs.base.positions, atol=1e-12)


def test_shown_the_arm_itself_the_residual_would_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr(
        "vla_ros.policies.hooks.fast_policy.without_residual", lambda observation, r: observation
    )
    assert World(0, 1.0).run(STEPS).error_m > 0.05


def test_when_the_source_dies_the_base_goes_on_and_the_residual_fades() -> None:
    for seed in range(10):
        world = World(seed).run(STEPS)
        world.is_source_alive = False
        before = world.now_ns
        world.step()
        assert world.log[-1].command.target0_ns == before  # rows within the same period
        world.run(150)
        steps = np.linalg.norm(np.diff(world.references[STEPS:], axis=0), axis=1)
        assert steps.max() <= 0.001
        sizes = [np.linalg.norm(rows.residual[0, :3]) for rows in world.log[STEPS:]]
        assert (np.diff(sizes[3:]) <= 1e-9).all()
        assert sizes[-1] < 1e-4
        aim = world.goal + world.bias
        assert np.linalg.norm(world.position - aim) < 0.001


def test_a_residual_that_begins_or_jumps_moves_no_more_than_its_slew() -> None:
    residual = BoundedResidual(ResidualConfig(slew_m_s=0.1))
    rng, last = np.random.default_rng(0), np.zeros(6)
    for k in range(200):
        now_ns = k * PERIOD_NS
        residual.offer(0.05 * rng.standard_normal(6), now_ns, now_ns)
        applied = residual.step(now_ns)
        assert np.linalg.norm(applied[:3] - last[:3]) <= 0.001 + 1e-12
        last = applied


values = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=6, max_size=6)


@given(st.lists(st.tuples(values, st.integers(-30, 30), st.integers(0, 400)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_bounds_hold_whatever_the_source_says(
    calls: list[tuple[list[float], int, int]],
) -> None:
    config = ResidualConfig()
    residual = BoundedResidual(config)
    now_ns = 10_000 * MS
    taken = 0
    for value, made_ms, pause_ms in calls:
        taken += residual.offer(np.array(value, dtype=float), now_ns + made_ms * MS, now_ns)
        now_ns += pause_ms * MS
        applied = residual.step(now_ns)
        assert np.isfinite(applied).all()
        assert np.linalg.norm(applied[:3]) <= config.bound_m * (1 + 1e-9)
        assert np.linalg.norm(applied[3:]) <= config.bound_rad * (1 + 1e-9)
    assert taken + residual.refused.total() == len(calls)


def test_values_that_cannot_be_used_are_counted_and_the_last_good_one_fades() -> None:
    residual = BoundedResidual(ResidualConfig(hold_s=0.02, decay_s=0.1))
    good = np.array([0.01, 0, 0, 0, 0, 0])
    assert residual.offer(good, 0, 0)
    for k in range(30):
        residual.step(k * 10 * MS)
    assert not residual.offer(np.full(6, np.nan), 290 * MS, 290 * MS)
    assert not residual.offer(np.zeros(3), 290 * MS, 290 * MS)
    assert not residual.offer(good, 900 * MS, 290 * MS)
    assert not residual.offer(good, -1, 290 * MS)
    assert dict(residual.refused) == {
        "not finite": 1,
        "shape": 1,
        "from the future": 1,
        "out of order": 1,
    }
    assert residual.is_silent(290 * MS)
    expected = 0.01 * np.exp(-(0.29 - 0.02) / 0.1)
    assert residual.applied[0] == pytest.approx(expected)
    residual.reset()
    assert not residual.step(300 * MS).any()


def test_a_pause_of_the_loop_is_no_licence_to_jump() -> None:
    residual = BoundedResidual(ResidualConfig(slew_m_s=0.1, longest_step_s=0.05))
    residual.step(0)
    residual.offer(np.array([0.02, 0, 0, 0, 0, 0]), 5_000 * MS, 5_000 * MS)
    assert residual.step(5_000 * MS)[0] == pytest.approx(0.005)


def test_the_residual_is_taken_off_what_the_policy_is_shown() -> None:
    observation = make_observation(x=0.4)
    r = np.array([0.01, -0.02, 0.005, 0.03, -0.02, 0.05])
    shown = without_residual(observation, r).state
    rows = replace(
        random_chunk(0, np.random.default_rng(2), 1), positions=shown.T_base_ref[None, :3, 3]
    )
    back = moved(replace(rows, quats_xyzw=exp(-r[None, 3:])), np.append(r, 0.0)[None])
    np.testing.assert_allclose(back.positions[0], observation.state.T_base_ref[:3, 3], atol=1e-12)
    np.testing.assert_allclose(difference(back.quats_xyzw, np.eye(4)[[3]]), 0.0, atol=1e-12)
    np.testing.assert_allclose(
        shown.T_base_ref[:3, :3] @ shown.T_base_ref[:3, :3].T, np.eye(3), atol=1e-12
    )
    assert without_residual(observation, np.zeros(6)) is observation


def test_the_executor_runs_a_hooked_policy_as_any_other() -> None:
    now_ns = 10_000 * MS
    buffer = LatentBuffer()
    world = World(1)
    executor = ChunkExecutor(world.policy, buffer)
    executor.set_context(BufferContext(episode_id=1, instruction_id=1), now_ns, None)
    stamp = LatencyStamp(
        kind=StampKind.LATENT,
        episode_id=1,
        instruction_id=1,
        capture_oldest_ns=now_ns,
        hard_expire_ns=now_ns + 5_000 * MS,
    )
    buffer.offer(Latent(tensors={}, stamp=stamp), now_ns)
    world.residual.offer(np.append(-BIAS_M, np.zeros(3)), now_ns, now_ns)
    for k in range(20):
        step_ns = now_ns + k * PERIOD_NS
        result = executor.step(step_ns, replace(make_observation(step_ns).state), "go", 1)
        assert result.segment is not None
        rows = world.log[-1]
        apart = np.linalg.norm(result.segment.positions[-ROWS:] - rows.command.positions, axis=1)
        assert k > 0 or not apart.any()
        assert apart[-1] <= 0.2 * apart[0]  # what the seam adds fades
    assert np.abs(rows.residual).max() > 0.001


def test_an_error_of_the_policy_passes_and_reset_reaches_all() -> None:
    class Failing(BiasedPolicy):
        resets = 0

        def decode(self, latent, observation, now_ns):  # type: ignore[no-untyped-def]
            raise PolicyError("no idea")

        def reset(self) -> None:
            self.resets += 1

    failing = Failing(np.zeros(3), np.zeros(3))
    residual = BoundedResidual()
    residual.offer(np.full(6, 0.001), 0, 0)
    policy = HookedFastPolicy(PlainExpert(failing), HookChain(residual))
    with pytest.raises(PolicyError, match="no idea"):
        policy.decode(LATENT, make_observation(), 0)
    policy.reset()
    assert failing.resets == 1
    assert residual.is_silent(0)
