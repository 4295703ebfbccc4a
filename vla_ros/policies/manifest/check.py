# SPDX-License-Identifier: Apache-2.0
"""Whether the parts of a manifest agree: graphs with kind, shapes with meanings, abilities."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.check_cache import check_cache
from vla_ros.policies.manifest.schema import (
    GraphSpec,
    ImageDetails,
    InstructionDetails,
    Kind,
    Manifest,
    Role,
    StateDetails,
    TensorSpec,
)
from vla_ros.policies.state_vector import StateVector

_SEEN = frozenset({Role.IMAGES, Role.IMAGE_MASK, Role.INSTRUCTION, Role.STATE})
_DRAWN = frozenset({Role.NOISE, Role.PREFIX, Role.PREFIX_ROWS})
_FLOW = frozenset({Role.FLOW_ROWS, Role.FLOW_TIME, Role.COTANGENT, Role.PREFIX_ROWS})
_LATENT = frozenset({Role.LATENT, Role.LATENT_AGE})
_ROWS = frozenset({Role.ACTIONS, Role.SCORES, Role.ENERGY, Role.UNCERTAINTY, Role.DONE})

_GRAPHS = {Kind.SPLIT: ("slow", "fast"), Kind.CHUNK: ("chunk",)}
_INPUTS: Mapping[str, frozenset[Role]] = {
    "slow": _SEEN,
    "fast": _SEEN | _DRAWN | _LATENT,
    "chunk": _SEEN | _DRAWN,
    "velocity": _SEEN | _LATENT | _FLOW,
    "cells": frozenset({Role.IMAGES, Role.PART_ORIGIN}),
    "fuse": _SEEN | {Role.FEATURES},
}
_OUTPUTS: Mapping[str, frozenset[Role]] = {
    "slow": frozenset({Role.LATENT}),
    "fast": _ROWS,
    "chunk": _ROWS | {Role.LATENT},
    "velocity": frozenset({Role.VELOCITY, Role.VJP}),
    "cells": frozenset({Role.FEATURES}),
    "fuse": frozenset({Role.LATENT}),
}
_NEEDED = {
    "slow": Role.LATENT,
    "fast": Role.ACTIONS,
    "chunk": Role.ACTIONS,
    "cells": Role.FEATURES,
    "fuse": Role.LATENT,
}
_MANY = frozenset({Role.LATENT})  # all other roles occur at most once on each side of a graph


def check_manifest(manifest: Manifest) -> None:
    """Check that the parts of a manifest agree with each other.

    Raises:
        ConfigError: naming what does not.
    """
    _check_graph_names(manifest)
    for graph in manifest.all_graphs.values():
        _check_roles(graph)
        for tensor in graph.inputs + graph.outputs:
            try:
                _check_tensor(tensor, manifest)
                if tensor.steps and graph.name != "cells":
                    raise ConfigError("only tensors of cache.cells have steps")
            except ConfigError as error:
                raise ConfigError(f"{graph.place}: {tensor.name}: {error}") from error
        _check_mask(graph)
        _check_latents(manifest, graph)
    _check_abilities(manifest)
    check_cache(manifest)
    files = [g.file for g in manifest.all_graphs.values()] + list(manifest.files)
    twice = sorted({name for name in files if files.count(name) > 1})
    if twice:
        raise ConfigError(f"file {twice[0]!r} is named twice")


def _check_graph_names(manifest: Manifest) -> None:
    needed = _GRAPHS[manifest.kind]
    allowed = (*needed, "velocity")
    for name in needed:
        if name not in manifest.graphs:
            raise ConfigError(f"a {manifest.kind.value} policy needs graphs.{name}")
    for name in manifest.graphs:
        if name not in allowed:
            raise ConfigError(
                f"graphs of a {manifest.kind.value} policy are {', '.join(allowed)}, got {name!r}"
            )


def _check_roles(graph: GraphSpec) -> None:
    for side, tensors, allowed in (
        ("input", graph.inputs, _INPUTS[graph.name]),
        ("output", graph.outputs, _OUTPUTS[graph.name]),
    ):
        roles = [tensor.role for tensor in tensors]
        for tensor in tensors:
            if tensor.role not in allowed:
                names = ", ".join(sorted(role.value for role in allowed))
                raise ConfigError(
                    f"{graph.place}: {side} {tensor.name} cannot have the role "
                    f"{tensor.role.value}; possible: {names}"
                )
            if roles.count(tensor.role) > 1 and tensor.role not in _MANY:
                raise ConfigError(f"{graph.place}: two {side}s are {tensor.role.value}")
    needed = _NEEDED.get(graph.name)
    if needed is not None and graph.output(needed) is None:
        raise ConfigError(f"{graph.place} has no output {needed.value}")
    if not graph.inputs:
        raise ConfigError(f"{graph.place} has no inputs")


def _check_tensor(tensor: TensorSpec, manifest: Manifest) -> None:
    rows = (1, manifest.actions.rows, manifest.actions.columns)
    candidates = manifest.abilities.candidates
    expected: dict[Role, tuple[str, tuple[int, ...]]] = {
        Role.PART_ORIGIN: ("int64", (1, 2)),
        Role.LATENT_AGE: ("float32", (1, 1)),
        Role.NOISE: ("float32", rows if len(tensor.size) < 4 else (1, candidates, *rows[1:])),
        Role.PREFIX: ("float32", rows),
        Role.PREFIX_ROWS: ("int64", (1, 1)),
        Role.FLOW_ROWS: ("float32", rows),
        Role.FLOW_TIME: ("float32", (1, 1)),
        Role.COTANGENT: ("float32", rows),
        Role.ACTIONS: (
            "float32",
            rows if candidates == 1 else (1, candidates, *rows[1:]),
        ),
        Role.SCORES: ("float32", (1, candidates)),
        Role.ENERGY: ("float32", (1, candidates)),
        Role.UNCERTAINTY: ("float32", (1, 1)),
        Role.DONE: ("float32", (1, 1)),
        Role.VELOCITY: ("float32", rows),
        Role.VJP: ("float32", rows),
    }
    if tensor.role in expected:
        dtype, shape = expected[tensor.role]
        if tensor.dtype != dtype or tensor.size != shape:
            raise ConfigError(
                f"{tensor.role.value} must be {dtype} {list(shape)}, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    elif tensor.role not in (Role.LATENT, Role.FEATURES):
        _check_seen(tensor, manifest)


def _check_seen(tensor: TensorSpec, manifest: Manifest) -> None:
    details, size = tensor.details, tensor.size
    if isinstance(details, ImageDetails):
        n = len(details.cameras)
        fits = (len(size) == 5 and size[1] == n) or (len(size) == 4 and n == 1)
        if tensor.dtype != "uint8" or not fits or size[0] != 1 or size[-1] != 3:
            raise ConfigError(
                f"images of {n} cameras must be uint8 [1, {n}, height, width, 3], "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    elif isinstance(details, InstructionDetails):
        if tensor.dtype not in ("int64", "int32") or len(size) != 2 or size[0] != 1:
            raise ConfigError(
                f"an instruction must be int64 [1, tokens], got {tensor.dtype} {list(tensor.shape)}"
            )
        if details.vocabulary not in manifest.files:
            raise ConfigError(f"{details.vocabulary!r} is missing under files, with its sha256")
    elif isinstance(details, StateDetails):
        width = StateVector(details.fields, details.n_joints).width
        if tensor.dtype != "float32" or size != (1, width):
            raise ConfigError(
                f"these state fields are float32 [1, {width}], "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    elif tensor.dtype != "bool" or len(size) != 2 or size[0] != 1:  # image mask
        raise ConfigError(
            f"an image mask must be bool [1, cameras], got {tensor.dtype} {list(tensor.shape)}"
        )


def _check_mask(graph: GraphSpec) -> None:
    mask, images = graph.input(Role.IMAGE_MASK), graph.input(Role.IMAGES)
    if mask is None:
        return
    details = None if images is None else images.details
    n = len(details.cameras) if isinstance(details, ImageDetails) else 0
    if mask.size != (1, n):
        raise ConfigError(f"{graph.place}: {mask.name} must be [1, {n}], one per camera")


def _check_latents(manifest: Manifest, graph: GraphSpec) -> None:
    """What ``slow`` or ``chunk`` makes is what the others are given."""
    maker = manifest.seeing
    made = {t.name: t for t in maker.outputs if t.role is Role.LATENT}
    for tensor in graph.inputs:
        if tensor.role is Role.LATENT_AGE and manifest.kind is Kind.CHUNK:
            raise ConfigError(f"{graph.place}: there is no latent age in one piece")
        if tensor.role is not Role.LATENT:
            continue
        source = made.get(tensor.source or tensor.name)
        if source is None:
            raise ConfigError(
                f"{graph.place}: input {tensor.name} is no output of {maker.name}, "
                f"which makes {', '.join(made) or 'no latent'}"
            )
        if (source.dtype, source.size) != (tensor.dtype, tensor.size):
            raise ConfigError(
                f"{graph.place}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, but "
                f"{maker.name} makes it {source.dtype} {list(source.shape)}"
            )


def _check_abilities(manifest: Manifest) -> None:
    abilities, acting = manifest.abilities, manifest.acting
    velocity = manifest.graphs.get("velocity")
    has_prefix = acting.input(Role.PREFIX) is not None
    if has_prefix != (acting.input(Role.PREFIX_ROWS) is not None):
        raise ConfigError(f"graphs.{acting.name}: prefix and prefix_rows come together")
    takes_prefix = has_prefix or (
        velocity is not None and velocity.input(Role.PREFIX_ROWS) is not None
    )
    ranking = next(
        (role.value for role in (Role.SCORES, Role.ENERGY) if acting.output(role)), "none"
    )
    found = {
        "age_input": acting.input(Role.LATENT_AGE) is not None,
        "ranking": ranking,
        "uncertainty": acting.output(Role.UNCERTAINTY) is not None,
        "vjp": velocity is not None and velocity.output(Role.VJP) is not None,
    }
    for name, value in found.items():
        if getattr(abilities, name) != value:
            raise ConfigError(
                f"abilities.{name} is {getattr(abilities, name)}, the tensors say {value}"
            )
    if (abilities.prefix_rows_max > 0) != takes_prefix:
        raise ConfigError(
            f"abilities.prefix_rows_max is {abilities.prefix_rows_max}, but "
            f"{'there is an' if takes_prefix else 'no'} input prefix_rows"
        )
    if abilities.prefix_rows_max >= manifest.actions.rows:
        raise ConfigError(
            f"abilities.prefix_rows_max must be below actions.rows ({manifest.actions.rows}), "
            f"got {abilities.prefix_rows_max}"
        )
    if (takes_prefix or velocity is not None) and manifest.actions.first_row_s > 0.0:
        raise ConfigError(
            "actions.first_row_s must be 0 where rows of a running plan are continued or guide, "
            f"got {manifest.actions.first_row_s:g}"
        )
    _check_velocity(manifest, velocity)


def _check_velocity(manifest: Manifest, velocity: GraphSpec | None) -> None:
    if (manifest.abilities.denoising_steps > 0) != (velocity is not None):
        raise ConfigError(
            f"abilities.denoising_steps is {manifest.abilities.denoising_steps}, but there is "
            f"{'a' if velocity else 'no'} graphs.velocity"
        )
    if velocity is None:
        return
    if manifest.model_space is None:
        raise ConfigError("graphs.velocity needs model_space: mean and scale of the columns")
    columns = manifest.actions.columns
    lengths = (len(manifest.model_space.mean), len(manifest.model_space.scale))
    if lengths != (columns, columns):
        raise ConfigError(f"model_space needs {columns} values of mean and scale, got {lengths}")
    for role in (Role.FLOW_ROWS, Role.FLOW_TIME):
        if velocity.input(role) is None:
            raise ConfigError(f"graphs.velocity has no input {role.value}")
    if velocity.output(Role.VELOCITY) is None:
        raise ConfigError("graphs.velocity has no output velocity")
    if (velocity.input(Role.COTANGENT) is None) != (velocity.output(Role.VJP) is None):
        raise ConfigError("graphs.velocity: cotangent and vjp come together")
