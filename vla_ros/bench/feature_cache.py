# SPDX-License-Identifier: Apache-2.0
"""A slow policy that reuses features of patches, beside the same one that computes all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.measurement import Measurement, compared
from vla_ros.policies.base import SlowPolicy
from vla_ros.policies.features.cache import CacheCount
from vla_ros.policies.features.cached_slow import CachedSlowPolicy, UncachedSlowPolicy
from vla_ros.policies.features.patch_mlp import PatchMlpEncoder
from vla_ros.types import CameraFrame, CameraIntrinsics, ControlMode, Observation, RobotState

SIDE_PX = 224
CAMERA = "scene_camera"
_NOISE = 2.0  # levels
_IMAGES = 100
_TARGET = 1.0 / 1.5
_ARM_PX = 40


@dataclass(frozen=True)
class _Series:
    """What each call took [ms]: (n, 2), wall clock and CPU."""

    cached: NDArray[np.float64]
    uncached: NDArray[np.float64]
    reuse_ratio: float


def measure_feature_cache(repeats: int) -> list[Measurement]:
    """Return the time of a latent on a static scene, and while an arm moves through it."""
    n = max(min(repeats, _IMAGES), 10)
    return [
        _measure("policy.feature_cache_static", n, 0, "nothing moves", _TARGET),
        _measure("policy.feature_cache_moving", n, 8, "an arm moves 8 px from image to image", 0.0),
    ]


def _measure(name: str, n: int, step_px: int, what: str, target: float) -> Measurement:
    series = _run(n, step_px)
    ours, theirs = np.median(series.cached, axis=0), np.median(series.uncached, axis=0)
    result = compared(
        name,
        float(ours[0]),
        float(theirs[0]),
        "ms",
        n,
        f"image and words to latent, {SIDE_PX} x {SIDE_PX}, noise of {_NOISE:g} levels, {what}; "
        f"alternative: every patch computed. Reused: {100 * series.reuse_ratio:.0f} % of patches. "
        f"CPU time: {ours[1]:.2f} against {theirs[1]:.2f} ms",
    )
    return replace(
        result,
        ours_p99=float(np.percentile(series.cached[:, 0], 99)),
        alternative_p99=float(np.percentile(series.uncached[:, 0], 99)),
        target=target,
    )


def _run(n: int, step_px: int) -> _Series:
    encoder = PatchMlpEncoder((CAMERA,))
    cached, uncached = CachedSlowPolicy(encoder), UncachedSlowPolicy(encoder)
    rng = np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {"cached": [], "uncached": []}
    count = CacheCount()
    for k in range(n + 1):
        observation = _observation(rng, k * step_px % (SIDE_PX - _ARM_PX))
        # In turns, so that a machine that is busy for a while is so for both.
        times["cached"].append(_time_ms(cached, observation))
        count = count + cached.last if k else CacheCount()
        times["uncached"].append(_time_ms(uncached, observation))
    # The first image fills the cache.
    return _Series(
        np.array(times["cached"][1:]), np.array(times["uncached"][1:]), count.reuse_ratio
    )


def _time_ms(policy: SlowPolicy, observation: Observation) -> tuple[float, float]:
    start_ns, start_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
    policy.encode(observation)
    cpu_ns = time.thread_time_ns() - start_cpu_ns
    return (time.perf_counter_ns() - start_ns) * 1e-6, cpu_ns * 1e-6


def observation_for_bench() -> Observation:
    """Return one image of the scene with a robot state at rest."""
    return _observation(np.random.default_rng(0), 0)


def _observation(rng: np.random.Generator, arm_px: int) -> Observation:
    """Return a grey table with a red and a cyan square, and a dark arm across a third of it."""
    image = np.full((SIDE_PX, SIDE_PX, 3), 120.0)
    image[150:180, 60:90] = (217.0, 20.0, 20.0)
    image[140:190, 140:190] = (20.0, 190.0, 204.0)
    image[: SIDE_PX // 3, arm_px : arm_px + _ARM_PX] = 60.0
    image += _NOISE * rng.standard_normal(image.shape)
    frame = CameraFrame(
        name=CAMERA,
        rgb=np.clip(np.rint(image), 0, 255).astype(np.uint8),
        depth_m=None,
        intrinsics=CameraIntrinsics(
            width=SIDE_PX, height=SIDE_PX, fx=200.0, fy=200.0, cx=112.0, cy=112.0
        ),
        T_base_camera=np.eye(4),
        capture_ns=1,
    )
    state = RobotState(
        seq=1,
        tick_ns=1,
        mode=ControlMode.HOLD,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau=np.zeros(7),
        T_base_ee=np.eye(4),
        twist_base=np.zeros(6),
        T_base_ref=np.eye(4),
        twist_ref_base=np.zeros(6),
        gripper_width_m=0.08,
        gripper_target_m=0.08,
    )
    return Observation(
        state=state,
        instruction="put the red cube in the cyan bowl",
        instruction_id=1,
        episode_id=1,
        frames={CAMERA: frame},
    )
