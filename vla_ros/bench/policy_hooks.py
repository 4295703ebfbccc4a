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
from vla_ros.policies.composition.best_of import flow_sampler
from vla_ros.policies.composition.composed_flow import ComposedFlow
from vla_ros.policies.flow_mixture import N_COLUMNS, FlowMixturePolicy
from vla_ros.policies.gaussian_flow import Modes
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.costs import PostCost
from vla_ros.policies.hooks.residual import BoundedResidual
from vla_ros.policies.hooks.steering import SteeredFlow

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
    residual = BoundedResidual()
    chain = HookChain(residual)

    def one() -> object:
        return guided_denoise(a, request)

    def hooked() -> object:
        now_ns = time.monotonic_ns()
        residual.offer(np.full(6, 0.001), now_ns, now_ns)
        return chain.apply(base, now_ns, base).command

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
            "residual, limiter and sum of the terms for 16 rows, at most 1 ms wanted; alternative: "
            f"making the rows, {POLICY}",
        ),
    ]


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
