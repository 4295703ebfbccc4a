# SPDX-License-Identifier: Apache-2.0
"""Denoising of a flow policy, tied to rows that will be executed anyway.

Flow time t runs from noise (0) to rows (1); Euler steps x += v / n. With prefix rows Y, weights W:

    x1    = x + (1 - t) v                                denoised estimate
    e     = W (Y - x1)
    v    <- v + g(t) J^T e,   g(t) = min((1 - t) / t * (t^2 + (1 - t)^2) / (1 - t)^2, g_max)
    J     = I + (1 - t) dv/dx                            VJP, the paper's pseudo-inverse guidance
    J     = I                                            IDENTITY

At t = 0 the factor is infinite, so g_max holds. TRAINED: rows < d of x are Y at every step and the
policy, trained for that, gives the velocity of the rest.

Source: arXiv 2506.07339, Kinetix code cc6c5f5 (``realtime_action``): VJP, g_max 5, schedule exp.
IDENTITY is what LeRobot 7427f318 (``policies/rtc/modeling_rtc.py``) computes: its velocity is made
before gradients are recorded. TRAINED: arXiv 2512.05964.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import (
    GenerativePolicy,
    Guidance,
    InferenceRequest,
    Prefix,
    PrefixPolicy,
)
from vla_ros.errors import PolicyError
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]

SCHEDULES = ("zeros", "ones", "linear", "exp")


def prefix_weights(schedule: str, start: int, end: int, total: int) -> Array:
    """Return how firmly each of ``total`` rows is bound (total,).

    1 before ``start``, 0 from ``end`` on; in between, with n = end - start:

        zeros: 0    ones: 1    linear: c_i = (end - i) / (n + 1)    exp: c_i expm1(c_i) / (e - 1)
    """
    start = min(start, end)
    i = np.arange(total)
    weights = np.clip((end - i) / (end - start + 1), 0.0, 1.0)
    if schedule == "zeros":
        weights = np.zeros(total)
    elif schedule == "ones":
        weights = np.ones(total)
    elif schedule == "exp":
        weights = weights * np.expm1(weights) / (math.e - 1.0)
    weights[i < start] = 1.0
    weights[i >= end] = 0.0
    return weights


def guidance_weight(t: float, largest: float) -> float:
    """Return the factor g(t) of the correction; ``largest`` where it is infinite."""
    if t <= 0.0 or t >= 1.0:
        return largest
    return min((t * t + (1.0 - t) ** 2) / (t * (1.0 - t)), largest)


def guided_denoise(
    policy: GenerativePolicy, request: InferenceRequest, noise: Array | None = None
) -> ActionChunk:
    """Return the rows that the policy makes of ``noise``, by default the noise of this request.

    Raises:
        PolicyError: if the request asks for trained prefixes and the policy has none.
    """
    x = np.array(policy.noise(request) if noise is None else noise)
    prefix = request.prefix if request.guidance is not Guidance.NONE else None
    target = None if prefix is None else policy.to_model(prefix.rows, request)
    for step in range(policy.n_denoising_steps):
        t = step / policy.n_denoising_steps
        if prefix is None or target is None:
            velocity = policy.velocity(x, t, request)
        elif request.guidance is Guidance.TRAINED:
            velocity = _continued(policy, request, x, t, target[: prefix.frozen_len])
        else:
            velocity = _guided(policy, request, x, t, prefix, target)
        x = x + velocity / policy.n_denoising_steps
    if prefix is not None and target is not None and request.guidance is Guidance.TRAINED:
        x[: prefix.frozen_len] = target[: prefix.frozen_len]
    return policy.from_model(x, request)


def _guided(
    policy: GenerativePolicy,
    request: InferenceRequest,
    x: Array,
    t: float,
    prefix: Prefix,
    target: Array,
) -> Array:
    velocity = policy.velocity(x, t, request)
    error = prefix.weights[:, None] * (target - (x + (1.0 - t) * velocity))
    correction = error
    if request.guidance is Guidance.VJP:
        correction = error + (1.0 - t) * policy.velocity_vjp(x, t, error, request)
    return velocity + guidance_weight(t, prefix.max_guidance_weight) * correction


def _continued(
    policy: GenerativePolicy, request: InferenceRequest, x: Array, t: float, rows: Array
) -> Array:
    if not isinstance(policy, PrefixPolicy):
        raise PolicyError("the policy was not trained to continue a prefix")
    x[: len(rows)] = rows
    velocity = policy.prefix_velocity(x, t, len(rows), request)
    velocity[: len(rows)] = 0.0
    return velocity
