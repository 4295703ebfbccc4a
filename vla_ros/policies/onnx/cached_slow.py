# SPDX-License-Identifier: Apache-2.0
"""The slow half with a cache: of one camera's image, only what a change reaches is computed anew.

Features of the image know no words, and those of a cell see ``halo_cells`` around it: what is far
from a change stays as it was (``features.regions``). Words and everything else that the slow half
is given are heeded anew at every call, by graph ``fuse``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.policies.base import Tensors
from vla_ros.policies.features.cache import CacheCount, FeatureCacheConfig, reuse_diagnostics
from vla_ros.policies.features.regions import RegionCache, Work
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import GraphSpec, Role, TensorSpec
from vla_ros.policies.onnx.feeds import Call, Feeds
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.onnx.slow import SlowHalf
from vla_ros.policies.timing import CallTiming, total_of
from vla_ros.types import Observation

Array = NDArray[np.generic]


class CachedOnnxSlowPolicy(SlowHalf):
    """A ``SlowPolicy`` of graphs ``cells`` and ``fuse``, the cache of a split policy.

    Its latents are those of graph ``slow``, but for changes below the threshold, and are stamped as
    such. The features live as long as this object, within an episode and instruction: those of
    other weights are never met.

    Args:
        folder: a split policy with a section ``cache``.
        runtime: where and how it runs; ``cache`` says when features may be reused.

    Attributes:
        last, total: cells that were known, unchanged, computed, of the last image and of all.
        written: (rows, columns) cells whose features are those of the last image.

    Raises:
        ConfigError: if the policy is not split, has no cache, or is refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(self, folder: PolicyFolder, runtime: PolicyRuntime | None = None) -> None:
        super().__init__(folder)
        runtime = runtime or PolicyRuntime()
        spec = self.manifest.demand_cache()
        self._now_ns = runtime.now_ns
        self._cell_px = spec.cell_px
        self._cache = RegionCache(
            spec.cell_px, spec.halo_cells, runtime.cache or FeatureCacheConfig()
        )
        self._image, self._origin = (
            _named(spec.cells, role) for role in (Role.IMAGES, Role.PART_ORIGIN)
        )
        self._features = _output(spec.cells)
        self._part_feeds, self._feeds = Feeds(folder, spec.cells), Feeds(folder, spec.fuse)
        self.cells = GraphSession(folder, "cells", runtime)
        self.fuse = GraphSession(folder, "fuse", runtime)
        self.name = f"cached({self.manifest.name})"
        self.last = self.total = CacheCount()
        self.written = np.zeros(self._features.size[2:], dtype=bool)

    @property
    def has_reused(self) -> bool:
        """Whether features of earlier images are in the last latent."""
        return self.last.reuse_ratio > 0.0

    def diagnostics(self) -> dict[str, float | str]:
        """Return where it runs, how long it takes, hit rate and reuse ratio of the cells."""
        said: dict[str, float | str] = {**self.cells.diagnostics(), **self.fuse.diagnostics()}
        return said | reuse_diagnostics(self.total, self.last)

    def reset(self) -> None:
        """Forget the features: a new episode or instruction begins."""
        self._cache.clear()
        self._part_feeds.reset()
        self._feeds.reset()

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent, and the strip of an image by which its age can be proved.

        Raises:
            PolicyError: if an input is missing, a graph fails, or its output is not usable. What
                was known stays known.
            StaleDataError: if an image is too old.
            InstructionError: if the instruction is not understood.
        """
        began_ns = self._now_ns()
        timings: list[CallTiming] = []
        image = self._part_feeds.make(Call(observation=observation))[self._image][0]
        work = self._cache.look(image)
        computed = self._compute(image, work, timings)
        features = self._cache.store(work, computed)
        self._count(work)
        feeds = self._feeds.make(Call(observation=observation, columns={Role.FEATURES: features}))
        outputs, timing = self.fuse.run(feeds)
        timings.append(timing)
        took_ns = self._now_ns() - began_ns
        self.last_timing = _within(took_ns, timings)
        return self._made(outputs, observation)

    def _compute(
        self, image: Array, work: Work, timings: list[CallTiming]
    ) -> NDArray[np.float32] | None:
        """Return the features of the part of an image that must be read; None if there is none."""
        if work.read is None:
            return None
        rows, columns = work.read.slices
        px = self._cell_px
        part = image[px * rows.start : px * rows.stop, px * columns.start : px * columns.stop]
        origin = np.array([[rows.start, columns.start]], dtype=np.int64)
        outputs, timing = self.cells.run(
            {self._image: np.ascontiguousarray(part)[None], self._origin: origin}
        )
        timings.append(timing)
        return np.asarray(outputs[self._features.name][0], dtype=np.float32)

    def _count(self, work: Work) -> None:
        self.last, self.total = work.count, self.total + work.count
        self.written[:] = False
        if work.write is not None:
            self.written[work.write.slices] = True


def _within(took_ns: int, timings: list[CallTiming]) -> CallTiming | None:
    """Return where the time of a call went whose graphs took ``timings``; the rest is before."""
    graphs = total_of(timings)
    return None if graphs is None else graphs.around(pre_ns=took_ns - graphs.total_ns)


def _named(graph: GraphSpec, role: Role) -> str:
    """Return the name of the input that a checked manifest has in a role."""
    return next(tensor.name for tensor in graph.inputs if tensor.role is role)


def _output(graph: GraphSpec) -> TensorSpec:
    return next(tensor for tensor in graph.outputs if tensor.role is Role.FEATURES)
