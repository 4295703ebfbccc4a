# SPDX-License-Identifier: Apache-2.0
"""Wrappers take no ability away: same capabilities, requests answered, times in the stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from able_policy import ABLE, LATENT, NOW, TIMING, AbleFast, prefix_of, request
from policy_stubs import CONTRACT, DT_NS, ROWS, rows_at
from strategy_samples import make_observation

from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.chunking.strategies.base import (
    Guidance,
    InferenceRequest,
    PolicyCapabilities,
)
from vla_ros.chunking.strategies.registry import negotiate, strategy_names
from vla_ros.clock import ManualClock
from vla_ros.errors import PolicyError
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.policies.anytime import AnytimeFastPolicy
from vla_ros.policies.around import answered, capabilities_of_fast, timing_of
from vla_ros.policies.base import (
    AnswersRequests,
    Capable,
    FastPolicy,
    LatentContract,
    LooksAtCameras,
    TimesItself,
)
from vla_ros.policies.composition.composed_flow import ComposedFlow
from vla_ros.policies.conformance.planted import CorruptFastPolicy
from vla_ros.policies.contract import CheckedFastPolicy
from vla_ros.policies.flow_mixture import N_COLUMNS, FlowMixturePolicy
from vla_ros.policies.gaussian_flow import Modes
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.costs import SpeedCost
from vla_ros.policies.hooks.fast_policy import FlowExpert, HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.residual import BoundedResidual, ResidualConfig
from vla_ros.policies.hooks.steering import SteeredFlow
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

MS = 1_000_000


WRAPPERS: dict[str, Callable[[FastPolicy], FastPolicy]] = {
    "checked": lambda policy: CheckedFastPolicy(policy, CONTRACT),
    "hooked": lambda policy: HookedFastPolicy(PlainExpert(policy), HookChain()),
    "plain expert": PlainExpert,
    "corrupt": lambda policy: CorruptFastPolicy(policy, lambda chunk: chunk),
    "hooked and checked": lambda policy: CheckedFastPolicy(
        HookedFastPolicy(PlainExpert(policy), HookChain()), CONTRACT
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_policy_negotiates_what_the_policy_itself_does(wrap) -> None:
    policy = wrap(AbleFast())
    assert isinstance(policy, Capable)
    assert policy.capabilities == ABLE
    executor = ChunkExecutor(policy, LatentBuffer())
    for wanted in strategy_names():
        assert negotiate(executor.capabilities, wanted) == negotiate(ABLE, wanted)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_policy_is_told_of_prefix_and_guidance_and_gives_all_candidates(wrap) -> None:
    inside = AbleFast()
    policy = wrap(inside)
    asked = request(
        prefix=prefix_of(np.tile([0.4, 0.1, 0.3], (ROWS, 1))), guidance=Guidance.TRAINED
    )
    assert isinstance(policy, AnswersRequests)
    chunks = policy.decode_request(LATENT, asked, NOW)
    assert len(chunks) == 2
    (told,) = inside.requests
    assert told.guidance is Guidance.TRAINED
    assert told.prefix is not None
    assert np.array_equal(told.prefix.rows.positions, asked.prefix.rows.positions)
    np.testing.assert_allclose(chunks[1].positions[:, 1], 0.01, atol=1e-12)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_policy_says_which_latents_and_cameras_and_where_its_time_went(wrap) -> None:
    policy = wrap(AbleFast())
    assert isinstance(policy, LatentContract)
    assert (policy.latent_schema_hash, policy.model_hash, policy.latent_bytes) == (12, 34, 56)
    assert isinstance(policy, LooksAtCameras)
    assert policy.cameras == ("wrist_camera",)
    context = ChunkExecutor(policy, LatentBuffer()).context(1, 1)
    assert (context.schema_hash, context.model_hash) == (12, 34)
    assert isinstance(policy, TimesItself)
    assert policy.last_timing is None
    answered(policy, LATENT, request(), NOW)
    assert policy.last_timing == TIMING


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_policy_without_abilities_is_not_said_to_have_them(wrap) -> None:
    class Bare:
        name = "bare"
        chunk_rows, chunk_dt_ns = ROWS, DT_NS

        def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
            return rows_at(np.tile([0.4, 0.0, 0.3], (ROWS, 1)), now_ns)

        def reset(self) -> None:
            pass

    bare = Bare()
    policy = wrap(bare)
    assert policy.capabilities == capabilities_of_fast(bare)
    assert ChunkExecutor(policy, LatentBuffer()).context(1, 1).model_hash == 0
    assert timing_of(policy) is None
    assert len(answered(policy, LATENT, request(), NOW)) == 1


def test_one_bad_candidate_is_refused_by_the_contract() -> None:
    class OneBad(AbleFast):
        def decode_request(self, latent, request, now_ns):
            good, bad = super().decode_request(latent, request, now_ns)
            return good, replace(bad, positions=bad.positions * np.nan)

    with pytest.raises(PolicyError, match="not finite"):
        CheckedFastPolicy(OneBad(), CONTRACT).decode_request(LATENT, request(), NOW)


def test_candidates_have_the_same_residual_and_it_is_taken_off_the_prefix() -> None:
    inside, residual = AbleFast(), BoundedResidual(ResidualConfig(slew_m_s=1.0))
    policy = HookedFastPolicy(PlainExpert(inside), HookChain(residual))
    value = np.array([0.0, 0.0, 0.01, 0.0, 0.0, 0.0])
    running = np.tile([0.4, 0.0, 0.31], (ROWS, 1))
    for k in range(1, 4):
        now_ns = NOW + k * 10 * MS
        residual.offer(value, now_ns, now_ns)
        asked = request(target0_ns=now_ns, prefix=prefix_of(running), guidance=Guidance.IDENTITY)
        chunks = policy.decode_request(LATENT, asked, now_ns)
    np.testing.assert_allclose(residual.applied, value)
    for chunk in chunks:
        np.testing.assert_allclose(chunk.positions[:, 2], 0.31)
    told = inside.requests[-1]
    # What is executed has the residual in it; the policy continues rows of its own.
    np.testing.assert_allclose(told.prefix.rows.positions[:, 2], 0.30)
    T = make_observation(NOW).state.T_base_ee
    np.testing.assert_allclose(told.observation.state.T_base_ee[:3, 3], T[:3, 3] - value[:3])


def flow(capabilities: PolicyCapabilities, seed: int = 0) -> FlowMixturePolicy:
    means = np.zeros((1, ROWS, N_COLUMNS))
    means[0, :, 0] = np.linspace(0.0, 1.0, ROWS)
    modes = Modes(np.ones(1), means)
    return FlowMixturePolicy(lambda request: modes, capabilities, seed=seed)


FLOW = PolicyCapabilities(
    horizon=ROWS, dt_ns=DT_NS, is_guided=True, has_vjp=True, trained_prefix_max=6
)


def test_composed_flows_can_do_what_both_parents_can() -> None:
    less = replace(FLOW, has_vjp=False, trained_prefix_max=2, execution_rows=3)
    composed = ComposedFlow(flow(replace(FLOW, takes_projected_state=True)), flow(less, 1))
    assert composed.capabilities == less
    assert SteeredFlow(composed, []).capabilities == less


def test_a_steered_expert_begins_with_a_trained_prefix_whatever_the_cost_wants() -> None:
    policy = HookedFastPolicy(
        FlowExpert(
            lambda latent: flow(FLOW),
            [SpeedCost(coefficient=2.0, gain=0.5)],
            chunk_rows=ROWS,
            chunk_dt_ns=DT_NS,
            capabilities=replace(FLOW, has_split_latent=True),
        ),
        HookChain(),
    )
    assert policy.capabilities.trained_prefix_max == 6
    start = make_observation(NOW).state.T_base_ee[:3, 3]
    positions = start + np.outer(np.arange(ROWS), [0.002, 0.001, 0.0])
    free = policy.decode_request(LATENT, request(), NOW)[0]
    tied = policy.decode_request(
        LATENT, request(prefix=prefix_of(positions), guidance=Guidance.TRAINED), NOW
    )[0]
    np.testing.assert_allclose(tied.positions[:3], positions[:3], atol=1e-9)
    assert np.abs(free.positions[:3] - positions[:3]).max() > 1e-3


def test_noise_of_an_expert_begins_anew_after_a_reset_whatever_strategies_number() -> None:
    expert = FlowExpert(lambda latent: flow(FLOW), [], chunk_rows=ROWS, chunk_dt_ns=DT_NS)
    policy = HookedFastPolicy(expert, HookChain())
    first = policy.decode_request(LATENT, request(seq=9), NOW)[0]
    policy.decode_request(LATENT, request(seq=10), NOW)
    policy.reset()
    again = policy.decode_request(LATENT, request(seq=11), NOW)[0]
    assert np.array_equal(first.positions, again.positions)


class Rows:
    """An anytime model whose steps take 2 ms."""

    n_steps = 5

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def first(self, observation: Observation) -> ActionChunk:
        return rows_at(np.zeros((ROWS, 3)), NOW)

    def refine(self, candidate: ActionChunk, step: int) -> ActionChunk:
        self._clock.advance(2 * MS)
        return candidate

    def energy(self, candidate: ActionChunk) -> float:
        return 1.0


def test_an_anytime_policy_times_itself_and_is_told_of_prefixes_if_it_heeds_them() -> None:
    clock = ManualClock(NOW)
    told: list[InferenceRequest] = []
    grid = {"chunk_rows": ROWS, "chunk_dt_ns": DT_NS}
    deaf = AnytimeFastPolicy(lambda latent: Rows(clock), 0.05, clock.now_ns, **grid)
    tied = request(prefix=prefix_of(np.zeros((ROWS, 3))), guidance=Guidance.IDENTITY)
    assert not deaf.capabilities.is_guided
    assert len(deaf.decode_request(LATENT, request(), clock.now_ns())) == 1
    assert deaf.last_timing == CallTiming(compute_ns=10 * MS)
    with pytest.raises(PolicyError, match="prefix"):
        deaf.decode_request(LATENT, tied, clock.now_ns())

    def model_for(latent: Latent, asked: InferenceRequest) -> Rows:
        told.append(asked)
        return Rows(clock)

    heeds = AnytimeFastPolicy(
        lambda latent: Rows(clock),
        0.05,
        clock.now_ns,
        **grid,
        capabilities=ABLE,
        model_for=model_for,
    )
    heeds.decode_request(LATENT, tied, clock.now_ns())
    assert told == [tied]
    assert isinstance(heeds, Capable)
    assert isinstance(heeds, AnswersRequests)
    assert isinstance(heeds, TimesItself)
