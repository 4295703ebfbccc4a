# SPDX-License-Identifier: Apache-2.0
"""A slow policy that computes the patches that changed and reuses the features of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import PolicyError, ShapeError
from vla_ros.policies.around import Around
from vla_ros.policies.base import Tensors
from vla_ros.policies.features.cache import (
    CacheCount,
    FeatureCache,
    FeatureCacheConfig,
    FeatureKey,
    Lookup,
    reuse_diagnostics,
)
from vla_ros.policies.features.encoder import Features, PatchEncoder, Patches
from vla_ros.policies.features.patches import patch_grid
from vla_ros.policies.timing import CallTiming
from vla_ros.types import CameraFrame, Observation


@dataclass(frozen=True)
class _View:
    """One camera's patches that must be computed, and the look-up that said so."""

    lookup: Lookup
    patches: Patches


class CachedSlowPolicy(Around):
    """A ``SlowPolicy`` around a ``PatchEncoder``.

    The patches of all cameras go through the encoder in one call. Latents are fused anew for every
    image: nothing that depends on words outlives them, and ``reset`` forgets the features too.

    Args:
        encoder: what computes; what it says of itself (capabilities, latents) is passed on.
        config: when a feature may be reused.
        now_ns: reads the clock [ns]; without one, timing is that of the encoder, if it says.

    Attributes:
        last, total: what became of the patches of the last call, and of all since the start.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        config: FeatureCacheConfig | None = None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(encoder)
        self._encoder, self._now_ns = encoder, now_ns
        self._timing: CallTiming | None = None
        self._cache = FeatureCache(encoder.patch_px, config)
        self.name = f"cached({encoder.name})"
        self.cameras = encoder.cameras
        self.max_age_s = encoder.max_age_s
        self.last = CacheCount()
        self.total = CacheCount()

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the encoder does not understand it."""
        self._encoder.check_instruction(instruction)

    def reset(self) -> None:
        """Forget every feature: a new episode or instruction begins."""
        self._cache.clear()

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent.

        Raises:
            PolicyError: if a camera's image is missing, or features are not finite.
            ShapeError: if patches do not fill an image, or features do not fit patches.
        """
        times_ns = [self._read_clock()]
        views = {camera: self._view(camera, observation) for camera in self._encoder.cameras}
        times_ns.append(self._read_clock())
        computed = self._compute([view.patches for view in views.values()])
        features: dict[str, Features] = {}
        start = 0
        for camera, view in views.items():
            n = len(view.patches)
            features[camera] = self._cache.store(view.lookup, computed[start : start + n])
            start += n
        self.last = sum((view.lookup.count for view in views.values()), CacheCount())
        self.total = self.total + self.last
        tensors = self._encoder.fuse(features, observation.instruction)
        times_ns.append(self._read_clock())
        if self._now_ns is not None:
            pre_ns, compute_ns = times_ns[1] - times_ns[0], times_ns[2] - times_ns[1]
            self._timing = CallTiming(pre_ns=pre_ns, compute_ns=compute_ns)
        return tensors

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went: comparing images is made before computing."""
        return super().last_timing if self._now_ns is None else self._timing

    @property
    def has_reused(self) -> bool:
        """Whether features of earlier images are in the last latent."""
        return self.last.reuse_ratio > 0.0

    def diagnostics(self) -> dict[str, float | str]:
        """Return what the encoder says; hit rate, reuse ratio (last and all), stale patches."""
        return (
            super().diagnostics()
            | reuse_diagnostics(self.total, self.last)
            | {"feature_encoder": self._encoder.version}
        )

    def _read_clock(self) -> int:
        return 0 if self._now_ns is None else self._now_ns()

    def _view(self, camera: str, observation: Observation) -> _View:
        frame = _frame_of(camera, observation)
        grid = patch_grid(frame.rgb, self._encoder.patch_px)
        key = FeatureKey(
            camera=camera,
            instruction_id=observation.instruction_id,
            instruction=observation.instruction,
            encoder_version=self._encoder.version,
        )
        lookup = self._cache.look_up(key, frame.rgb)
        return _View(lookup, grid[lookup.compute])

    def _compute(self, patches: list[Patches]) -> Features:
        n = sum(len(p) for p in patches)
        if n == 0:
            return np.zeros((0, 0), dtype=np.float32)
        return _checked(self._encoder.encode_patches(np.concatenate(patches)), n)


class UncachedSlowPolicy(Around):
    """The same without a cache: every patch of every image is computed. For comparisons."""

    def __init__(self, encoder: PatchEncoder) -> None:
        super().__init__(encoder)
        self._encoder = encoder
        self.name = encoder.name
        self.cameras = encoder.cameras
        self.max_age_s = encoder.max_age_s

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the encoder does not understand it."""
        self._encoder.check_instruction(instruction)

    def reset(self) -> None:
        """Nothing is kept."""

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent; errors are those of ``CachedSlowPolicy``."""
        features = {}
        for camera in self._encoder.cameras:
            grid = patch_grid(_frame_of(camera, observation).rgb, self._encoder.patch_px)
            patches = grid.reshape(-1, *grid.shape[2:])
            computed = _checked(self._encoder.encode_patches(patches), len(patches))
            features[camera] = computed.reshape(*grid.shape[:2], *computed.shape[1:])
        return self._encoder.fuse(features, observation.instruction)


def _frame_of(camera: str, observation: Observation) -> CameraFrame:
    frame = observation.frames.get(camera)
    if frame is None:
        raise PolicyError(f"no image of {camera!r}; got {sorted(observation.frames) or 'none'}")
    return frame


def _checked(features: Features, n: int) -> Features:
    if len(features) != n:
        raise ShapeError(f"features of {n} patches expected, got {len(features)}")
    if not np.isfinite(features).all():
        raise PolicyError("features are not finite")  # a cache would keep them
    return features
