# SPDX-License-Identifier: Apache-2.0
"""What composition, candidates and hooks cost per chunk, beside the policy without them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.bench.feature_cache import observation_for_bench
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.composition.best_of import flow_sampler
from vla_ros.policies.composition.composed_flow import ComposedFlow
from vla_ros.policies.flow_mixture import N_COLUMNS, FlowMixturePolicy
from vla_ros.policies.gaussian_flow import Modes
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.costs import PostCost
from vla_ros.policies.hooks.fast_policy import HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.limiter import CommandLimiter
from vla_ros.policies.hooks.log import to_arrays
from vla_ros.policies.hooks.residual import BoundedResidual
from vla_ros.policies.hooks.residual_inbox import ResidualInbox
from vla_ros.policies.hooks.settings import HookSettings
from vla_ros.policies.hooks.steering import SteeredFlow
from vla_ros.policies.hooks.terms import HookedRows
from vla_ros.types import ActionChunk, Latent, Observation

_H = 16
_DT_NS = 33_333_333
_K = 16
_CALLS = 200
POLICY = "a flow policy in closed form, two modes, 16 rows, 10 steps"


def measure_policy_hooks(repeats: int) -> list[Measurement]:
    """Return the times of one chunk [ms]."""
    n = max(min(repeats, _CALLS), 10)
    a, b = flow_for_bench(0), flow_for_bench(1)
    request = request_for_bench(1)
    sample = flow_sampler(a)
    composed = ComposedFlow(a, b)
    steered = SteeredFlow(a, [PostCost(x_m=0.1, y_m=0.0)])
    base = guided_denoise(a, request)
    hooked = _hooked(base, request)

    def one() -> object:
        return guided_denoise(a, request)

    return [
        compare(
            "policy.composed_flow",
            lambda: guided_denoise(composed, request),
            one,
            n,
            f"a chunk of two policies, mixed at every step; alternative: of one, {POLICY}",
        ),
        compare(
            f"policy.best_of_{_K}",
            lambda: [sample(request, k) for k in range(_K)],
            one,
            max(n // 10, 10),
            f"{_K} candidates, one after the other, without a scorer; alternative: one, {POLICY}",
        ),
        compare(
            "policy.steered_flow",
            lambda: guided_denoise(steered, request),
            one,
            n,
            f"a chunk steered past a post; alternative: without, {POLICY}",
        ),
        compare(
            "policy.hook_chain",
            hooked,
            one,
            n,
            "as executor_node runs it: a correction taken, the arm shown without it, residual, "
            "limiter, sum of the terms for 16 rows and their log as arrays, at most 1 ms wanted; "
            f"alternative: making the rows, {POLICY}",
        ),
    ]


class _Ready:
    """A fast policy whose rows are there already: what is left is the hooks."""

    name = "ready"

    def __init__(self, rows: ActionChunk) -> None:
        self._rows = rows
        self.chunk_rows, self.chunk_dt_ns = rows.horizon, rows.dt_ns

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        return self._rows

    def reset(self) -> None:
        pass


def _hooked(base: ActionChunk, request: InferenceRequest) -> Callable[[], object]:
    """Return one step of hooks that are all at work."""
    settings = HookSettings(residual=True, limiter_deviation_m=0.001)
    config = settings.residual_config(0.01)
    inbox = ResidualInbox(config, "base", settings.residual_max_age_s)
    residual = BoundedResidual(config)
    log: list[HookedRows] = []
    chain = HookChain(residual, CommandLimiter(settings.limiter_config()), log.append)
    policy = HookedFastPolicy(PlainExpert(_Ready(base)), chain)
    latent = Latent(tensors={}, stamp=LatencyStamp(kind=StampKind.LATENT))

    def step() -> object:
        now_ns = time.monotonic_ns()
        log.clear()
        inbox.put(np.full(6, 0.005), "base", now_ns, now_ns)
        newest = inbox.take()
        if newest is not None:
            residual.offer(*newest, now_ns)
        policy.decode_request(latent, request, now_ns)
        return [to_arrays(rows) for rows in log]

    return step


def request_for_bench(seq: int) -> InferenceRequest:
    """Return a request with an image."""
    return InferenceRequest(
        observation=observation_for_bench(), target0_ns=0, dt_ns=_DT_NS, seq=seq
    )


def flow_for_bench(seed: int) -> FlowMixturePolicy:
    """Return a flow policy that costs little."""
    means = np.zeros((2, _H, N_COLUMNS))
    means[:, :, 0] = np.linspace(0.0, 4.0, _H)
    means[0, :, 1] = np.sin(np.linspace(0.0, np.pi, _H))
    means[1, :, 1] = -means[0, :, 1]
    modes = Modes(np.array([0.5, 0.5]), means)
    return FlowMixturePolicy(
        lambda request: modes, PolicyCapabilities(horizon=_H, dt_ns=_DT_NS), seed=seed
    )


def compare(
    name: str, ours: Callable[[], object], alternative: Callable[[], object], n: int, what: str
) -> Measurement:
    """Return the times of two things that take turns [ms]."""
    times: tuple[list[float], list[float]] = ([], [])
    for k in range(n + 3):
        for function, taken in zip((ours, alternative), times, strict=True):
            start_ns = time.perf_counter_ns()
            function()
            if k >= 3:  # the first ones fill caches
                taken.append((time.perf_counter_ns() - start_ns) * 1e-6)
    medians = [float(np.median(taken)) for taken in times]
    p99s = [float(np.percentile(taken, 99)) for taken in times]
    result = compared(name, medians[0], medians[1], "ms", n, what)
    return replace(result, ours_p99=p99s[0], alternative_p99=p99s[1])
