# SPDX-License-Identifier: Apache-2.0
"""Slow policies in wrappers: which times reach the stamp, what a routed and a cached one state."""

from __future__ import annotations

import numpy as np
from feature_samples import seen_by
from policy_stubs import DT_NS, ROWS
from strategy_samples import make_observation

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.clock import ManualClock
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import InferenceTimes, stamp_latent
from vla_ros.policies.around import timing_of
from vla_ros.policies.base import Capable
from vla_ros.policies.contract import BackendContract, CheckedSlowPolicy
from vla_ros.policies.features.cached_slow import CachedSlowPolicy
from vla_ros.policies.features.patch_mlp import PatchMlpConfig, PatchMlpEncoder
from vla_ros.policies.routing.base import Backbone
from vla_ros.policies.routing.dispatch import Dispatcher
from vla_ros.policies.routing.routers import FixedRouter
from vla_ros.policies.routing.slow_policy import InlineBackend, RoutedSlowPolicy
from vla_ros.policies.timing import CallTiming, total_of
from vla_ros.types import Observation

MS = 1_000_000
NOW = 10_000 * MS
ABLE = PolicyCapabilities(horizon=ROWS, dt_ns=DT_NS, has_split_latent=True, n_candidates=2)
TIMING = CallTiming(pre_ns=3, queue_ns=5, compute_ns=7, post_ns=11)


class AbleSlow:
    """A slow policy that says everything of itself; takes 12 ms, of which 4 compute."""

    max_age_s = 1.0
    cameras = ("scene_camera",)
    capabilities = ABLE
    latent_schema_hash, latent_bytes = 12, 56
    last_timing: CallTiming | None = None

    def __init__(self, clock: ManualClock, model_hash: int = 34) -> None:
        self.name, self.model_hash, self._clock = "slow", model_hash, clock

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        pass

    def encode(self, observation: Observation) -> dict[str, np.ndarray]:
        self._clock.advance(12 * MS)
        self.last_timing = CallTiming(pre_ns=2 * MS, queue_ns=MS, compute_ns=4 * MS, post_ns=5 * MS)
        return {"goal": np.zeros(3, np.float32)}


def routed(clock: ManualClock, *model_hashes: int) -> RoutedSlowPolicy:
    small, large = (AbleSlow(clock, h) for h in model_hashes)
    dispatcher = Dispatcher(InlineBackend(small), InlineBackend(large), FixedRouter(Backbone.LARGE))
    return RoutedSlowPolicy(
        (small, large), dispatcher, clock.now_ns, lambda s: clock.advance(round(s * 1000 * MS))
    )


def stamped(policy: object, clock: ManualClock) -> LatencyStamp:
    """What vla_node writes into the stamp of a latent."""
    observation, start_ns = make_observation(NOW), clock.now_ns()
    tensors = policy.encode(observation)
    end_ns = publish_ns = clock.now_ns()
    timing = timing_of(policy)
    assert timing is not None
    start_ns, end_ns = timing.computing(start_ns, end_ns)
    times = InferenceTimes(request_ns=NOW, start_ns=start_ns, end_ns=end_ns, publish_ns=publish_ns)
    return stamp_latent(observation, tensors, times, seq=1, validity_ns=MS)


def test_the_stamp_of_a_wrapped_slow_policy_tells_computing_from_the_rest() -> None:
    clock = ManualClock(NOW)
    contract = BackendContract()
    for wrap in (lambda p: CheckedSlowPolicy(p, contract), lambda p: p):
        clock_ns = clock.now_ns()
        stamp = stamped(wrap(AbleSlow(clock)), clock)
        assert stamp.infer_start_ns - clock_ns == 3 * MS
        assert stamp.infer_end_ns - stamp.infer_start_ns == 4 * MS


def test_the_stamp_of_a_routed_policy_has_the_times_of_the_model_that_answered() -> None:
    clock = ManualClock(NOW)
    policy = routed(clock, 34, 34)
    stamp = stamped(policy, clock)
    assert stamp.infer_end_ns - stamp.infer_start_ns == 4 * MS
    assert policy.last_timing is not None
    assert policy.last_timing.total_ns == clock.now_ns() - NOW


def test_a_routed_policy_states_what_both_models_state() -> None:
    clock = ManualClock(NOW)
    same, other = routed(clock, 34, 34), routed(clock, 34, 35)
    assert (same.latent_schema_hash, same.model_hash, same.latent_bytes) == (12, 34, 56)
    assert (other.latent_schema_hash, other.model_hash) == (12, 0)
    assert same.cameras == ("scene_camera",)
    assert same.capabilities == ABLE


def test_a_cached_policy_times_itself_and_passes_on_what_its_encoder_states() -> None:
    class Encoder(PatchMlpEncoder):
        capabilities = ABLE
        latent_schema_hash, model_hash, latent_bytes = 12, 34, 56

        def encode_patches(self, patches: np.ndarray) -> np.ndarray:
            clock.advance(6 * MS)
            return super().encode_patches(patches)

    clock = ManualClock(NOW)
    encoder = Encoder(("scene_camera",), PatchMlpConfig(width=8, layers=1, features=8))
    policy = CachedSlowPolicy(encoder, now_ns=clock.now_ns)
    assert policy.last_timing is None
    policy.encode(seen_by(np.zeros((224, 224, 3), np.uint8)))
    assert policy.last_timing == CallTiming(compute_ns=6 * MS)
    assert isinstance(policy, Capable)
    assert (policy.latent_schema_hash, policy.model_hash, policy.latent_bytes) == (12, 34, 56)


def test_sums_of_times() -> None:
    assert total_of([None, None]) is None
    assert total_of([TIMING, None, TIMING]) == CallTiming(
        pre_ns=6, queue_ns=10, compute_ns=14, post_ns=22
    )
