# SPDX-License-Identifier: Apache-2.0
"""Whether the cache of a manifest is that of its slow half: same inputs, same latent, whole cells.

Letters: C channels, R rows and S columns of cells.
"""

from __future__ import annotations

from collections.abc import Iterable

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.schema import (
    CacheSpec,
    GraphSpec,
    ImageDetails,
    Kind,
    Manifest,
    Role,
    TensorSpec,
)


def check_cache(manifest: Manifest) -> None:
    """Check that the two graphs of a cache fit each other and the slow half.

    Raises:
        ConfigError: naming what does not fit.
    """
    cache = manifest.cache
    if cache is None:
        return
    if manifest.kind is not Kind.SPLIT:
        raise ConfigError(f"cache belongs to a slow half, and a {manifest.kind.value} has none")
    slow, cells, fuse = manifest.graphs["slow"], cache.cells, cache.fuse
    features = _demand(cells.output(Role.FEATURES), "cache.cells", "output features")
    if features.dtype != "float32" or len(features.size) != 4 or features.size[0] != 1:
        raise ConfigError(
            f"cache.cells: {features.name} must be float32 [1, channels, rows, columns], "
            f"got {features.dtype} {list(features.shape)}"
        )
    _check_part(cache, features)
    known = _demand(fuse.input(Role.FEATURES), "cache.fuse", "input features")
    if (known.dtype, known.size) != (features.dtype, features.size):
        raise ConfigError(
            f"cache.fuse: {known.name} is {known.dtype} {list(known.shape)}, but cells makes it "
            f"{features.dtype} {list(features.shape)}"
        )
    for role in (Role.INSTRUCTION, Role.STATE):
        if _read(slow, role) != _read(fuse, role):
            raise ConfigError(f"cache.fuse and graphs.slow must be given the same {role.value}")
    seen = {*_cameras(cells), *_cameras(fuse)}
    if seen != {*_cameras(slow)}:
        raise ConfigError(
            f"cache sees {', '.join(sorted(seen))}, graphs.slow {', '.join(_cameras(slow))}"
        )
    made, wanted = _latents(fuse.outputs), _latents(slow.outputs)
    if made != wanted:
        raise ConfigError(f"cache.fuse makes {made}, graphs.slow makes {wanted}")


def _check_part(cache: CacheSpec, features: TensorSpec) -> None:
    """A part has the side of its cells, in pixels."""
    part = _demand(cache.cells.input(Role.IMAGES), "cache.cells", "input images")
    origin = _demand(cache.cells.input(Role.PART_ORIGIN), "cache.cells", "input part_origin")
    if origin.steps:
        raise ConfigError(f"cache.cells: {origin.name} has one size, without steps")
    px, (rows, columns) = cache.cell_px, features.size[2:]
    size, steps = (1, px * rows, px * columns, 3), (0, px, px, 0)
    if part.size != size or part.steps != steps:
        raise ConfigError(
            f"cache.cells: {part.name} must be {list(size)} with steps {list(steps)}, for "
            f"{rows} x {columns} cells of {px} px, got {list(part.shape)}, {list(part.steps)}"
        )
    if features.steps != (0, 0, 1, 1):
        raise ConfigError(
            f"cache.cells: {features.name} must have steps [0, 0, 1, 1], got {list(features.steps)}"
        )


def _demand(tensor: TensorSpec | None, place: str, what: str) -> TensorSpec:
    if tensor is None:
        raise ConfigError(f"{place} has no {what}")
    return tensor


def _read(graph: GraphSpec, role: Role) -> tuple[object, ...]:
    """Return what a graph is given in a role, whatever it calls it."""
    tensor = graph.input(role)
    return () if tensor is None else (tensor.dtype, tensor.size, tensor.details)


def _cameras(graph: GraphSpec) -> tuple[str, ...]:
    images = graph.input(Role.IMAGES)
    details = None if images is None else images.details
    return details.cameras if isinstance(details, ImageDetails) else ()


def _latents(tensors: Iterable[TensorSpec]) -> str:
    made = (f"{t.name} {t.dtype} {list(t.size)}" for t in tensors if t.role is Role.LATENT)
    return ", ".join(sorted(made))
