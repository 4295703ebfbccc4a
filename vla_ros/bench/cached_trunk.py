# SPDX-License-Identifier: Apache-2.0
"""The learned trunk with a cache of its map of the scene, beside itself without, on images.

Images are rendered and have noise, as those of cameras have. Both compute a latent of every one, in
turns. Phases: nothing moves; the arm moves; a cube is put elsewhere between two images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bench.feature_cache import observation_for_bench
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.learning.manifest import CAMERAS
from vla_ros.learning.model_config import PICK_SLOT
from vla_ros.learning.trunk import PLACE_SCALE_M
from vla_ros.learning.views import SCENE_ROWS
from vla_ros.policies.base import SlowPolicy
from vla_ros.policies.features.cache import CacheCount, FeatureCacheConfig
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.providers import SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxSlowPolicy
from vla_ros.types import CameraFrame, Observation

NOISE = 2.0  # levels
# Six deviations of what the noise leaves in the mean of a cell, and a little more.
CONFIG = FeatureCacheConfig(threshold=5.0, max_reuses=100)
TARGETS = {"static": 1.0 / 1.5, "moving": 0.0, "mixed": 1.0 / 1.2}
# Above the table with the hand low, where a camera sees it; the first joint swings to and fro, so
# that at 10 images a second the hand moves with up to 0.2 m/s.
_LOW_RAD = (0.0, 0.3, 0.0, -2.5, 0.0, 2.8, 0.79)
_SWING_RAD, _SWING_IMAGES = 0.4, 60
_INSTRUCTION = "put the red cube in the cyan bowl"
_CUBE = "red"

Latent = NDArray[np.float32]


@dataclass(frozen=True)
class Teleports:
    """What became of cubes put elsewhere.

    Attributes:
        seen: trials in which every part of the scene that differs was computed on the next image.
        trials: in which it could be seen at all.
        largest_m: largest distance between where both say the cube is, after it.
    """

    seen: int
    trials: int
    largest_m: float


def measure_cached_trunk(
    folder: PolicyFolder, settings: SessionSettings, repeats: int
) -> list[Measurement]:
    """Return the time of a latent [ms] in every phase.

    Args:
        folder: the export, with a cache.
        settings: where both run.
        repeats: images of a phase at most; trials of teleports at most.

    Raises:
        ConfigError: if the export has no cache, or is refused.
    """
    n = max(min(repeats, 100), 10)
    runtime = PolicyRuntime(session=settings, cache=CONFIG)
    cached, whole = CachedOnnxSlowPolicy(folder, runtime), OnnxSlowPolicy(folder, runtime)
    with _Scene() as scene:
        found = teleports(scene, cached, whole, n)
        return [
            _measure(name, cached, whole, images, found)
            for name, images in (
                ("static", scene.static(n)),
                ("moving", scene.moving(n)),
                ("mixed", scene.mixed(n)),
            )
        ]


def teleports(
    scene: _Scene, cached: CachedOnnxSlowPolicy, whole: SlowPolicy, trials: int
) -> Teleports:
    """Put a cube elsewhere between two images, in many layouts."""
    seen = done = 0
    largest_m = 0.0
    for seed in range(trials):
        before, after, differs = scene.teleport(seed)
        if not differs.any():
            continue
        cached.reset()
        cached.encode(before)
        latent = _latent(cached, after)
        right = _latent(whole, after)
        done += 1
        seen += bool((cached.written & differs).sum() == differs.sum())
        largest_m = max(largest_m, _places_apart(latent, right))
    return Teleports(seen, done, largest_m)


def _latent(policy: SlowPolicy, observation: Observation) -> Latent:
    return np.asarray(policy.encode(observation)["latent"], dtype=np.float32)


def _places_apart(a: Latent, b: Latent) -> float:
    """Return how far apart two latents say that what is to be picked is [m]."""
    difference = a.astype(float) - b.astype(float)
    return float(PLACE_SCALE_M * np.linalg.norm(difference[0, PICK_SLOT, :2]))


def _measure(
    name: str,
    cached: CachedOnnxSlowPolicy,
    whole: SlowPolicy,
    images: Iterator[Observation],
    found: Teleports,
) -> Measurement:
    cached.reset()
    times: list[list[tuple[float, float]]] = [[], []]
    count, difference, away_m = CacheCount(), 0.0, 0.0
    for k, observation in enumerate(images):
        latents = []
        for policy, taken in zip((cached, whole), times, strict=True):
            start_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            latents.append(_latent(policy, observation))
            cpu_ms = (time.thread_time_ns() - cpu_ns) * 1e-6
            taken.append(((time.perf_counter_ns() - start_ns) * 1e-6, cpu_ms))
        if k:
            count = count + cached.last
            difference = max(difference, float(np.abs(latents[0] - latents[1]).max()))
            away_m = max(away_m, _places_apart(*latents))
    ours, theirs = (np.array(taken[1:]) for taken in times)  # the first image fills the cache
    (p50, cpu), (p50_whole, cpu_whole) = np.median(ours, axis=0), np.median(theirs, axis=0)
    if name == "mixed":  # of what differs from image to image, the mean is what matters
        (p50, cpu), (p50_whole, cpu_whole) = ours.mean(axis=0), theirs.mean(axis=0)
    result = compared(
        f"policy.cached_trunk_{name}",
        float(p50),
        float(p50_whole),
        "ms",
        len(ours),
        f"images and words to latent by the learned trunk, {'mean' if name == 'mixed' else 'p50'}; "
        f"alternative: the whole scene computed. CPU time: {cpu:.2f} against {cpu_whole:.2f} ms. "
        f"Cells not computed: {100 * count.reuse_ratio:.0f} %. What is to be picked is said to be "
        f"elsewhere by at most {1000 * away_m:.1f} mm. A cube put elsewhere was computed on the "
        f"next image in {found.seen} of {found.trials} trials; its place then differs by at most "
        f"{1000 * found.largest_m:.1f} mm",
    )
    return replace(
        result,
        ours_p99=float(np.percentile(ours[:, 0], 99)),
        alternative_p99=float(np.percentile(theirs[:, 0], 99)),
        target=TARGETS[name],
        difference=difference,
    )


class _Scene:
    """Rendered images of the cell, with noise."""

    def __init__(self) -> None:
        # MuJoCo and OpenGL are needed here alone.
        from vla_ros.sim.rendering import SceneRenderer
        from vla_ros.sim.scene import build_scene, describe_scene
        from vla_ros.sim.tasks import apply_layout, sample_layout

        model = build_scene()
        self._info = describe_scene(model)
        self._renderer = SceneRenderer(model, CAMERAS)
        self._layout: Callable[[int], Any] = lambda seed: apply_layout(
            self._info, sample_layout(seed)
        )
        self._random = np.random.default_rng(0)

    def __enter__(self) -> _Scene:
        return self

    def __exit__(self, *error: object) -> None:
        self._renderer.close()

    def static(self, n: int) -> Iterator[Observation]:
        """Give images in which nothing moves."""
        frames = self._draw(self._layout(1))
        for _ in range(n):
            yield self._seen(frames)

    def moving(self, n: int) -> Iterator[Observation]:
        """Give images in which the arm turns over the table."""
        for k in range(n):
            yield self._seen(self._draw(self._swept(self._layout(1), k)))

    def mixed(self, n: int) -> Iterator[Observation]:
        """Give images of an episode: half of the time still, half of it the arm moves."""
        qpos = self._layout(1)
        for k in range(n):
            if k % 20 == 19:
                qpos = self._displaced(qpos, 1000 + k)
            # Half of the time it holds where it came to, half it goes on.
            swing = 10 * (k // 20) + min(k % 20, 10)
            yield self._seen(self._draw(self._swept(qpos, swing)))

    def teleport(self, seed: int) -> tuple[Observation, Observation, Any]:
        """Return images before and after, and which cells of the scene differ by 15 levels."""
        before = self._draw(self._layout(seed))
        after = self._draw(self._displaced(self._layout(seed), seed + 1000))
        rows = slice(*SCENE_ROWS)
        a, b = (frames[CAMERAS[0]].rgb[rows].astype(float) for frames in (before, after))
        cells = np.abs(a - b).reshape(a.shape[0] // 4, 4, -1, 4, 3).mean(axis=(1, 3)).max(axis=-1)
        return self._seen(before), self._seen(after), cells > 15.0

    def _swept(self, qpos: Any, k: int) -> Any:
        moved = np.array(qpos)
        moved[:7] = _LOW_RAD
        moved[0] += _SWING_RAD * np.sin(2.0 * np.pi * k / _SWING_IMAGES)
        return moved

    def _displaced(self, qpos: Any, seed: int) -> Any:
        moved, there = np.array(qpos), self._layout(seed)
        start = self._info.cube_qpos[_CUBE]
        moved[start : start + 7] = there[start : start + 7]
        return moved

    def _draw(self, qpos: Any) -> dict[str, CameraFrame]:
        frames: dict[str, CameraFrame] = self._renderer.render(np.asarray(qpos), None, 1)
        return frames

    def _seen(self, frames: dict[str, CameraFrame]) -> Observation:
        noisy = {}
        for name, frame in frames.items():
            image = frame.rgb + NOISE * self._random.standard_normal(frame.rgb.shape)
            rgb = np.clip(np.rint(image), 0, 255).astype(np.uint8)
            noisy[name] = replace(frame, rgb=rgb)
        return replace(observation_for_bench(), instruction=_INSTRUCTION, frames=noisy)
