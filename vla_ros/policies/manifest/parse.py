# SPDX-License-Identifier: Apache-2.0
"""From the text of a manifest to a ``Manifest``; what is unknown or of a wrong type is refused."""

from __future__ import annotations

import re
from typing import TypeVar

from vla_ros.errors import ConfigError
from vla_ros.policies.action_space import ActionSpace
from vla_ros.policies.manifest.check import check_manifest
from vla_ros.policies.manifest.schema import (
    CACHE_GRAPHS,
    DTYPES,
    FORMAT,
    Abilities,
    CacheSpec,
    Details,
    Dimension,
    GraphSpec,
    ImageDetails,
    InstructionDetails,
    Kind,
    LatentAgeDetails,
    Manifest,
    ModelSpace,
    NoiseDetails,
    Rates,
    Role,
    StateDetails,
    TensorSpec,
)
from vla_ros.policies.manifest.section import Section, read_yaml

Settings = TypeVar("Settings")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_SIDE = 2**24
_MAX_DIMENSIONS = 8


def parse_manifest(text: str, origin: str = "manifest.yaml") -> Manifest:
    """Return the manifest that a YAML text is.

    Raises:
        ConfigError: naming the place, the value and what is allowed.
    """
    top = read_yaml(text, origin)
    version = top.take("format")
    if version != FORMAT or isinstance(version, bool):
        raise ConfigError(f"{top.path('format')} must be {FORMAT}, got {version!r}")
    name = top.text("name")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{top.path('name')} must be up to 64 letters, digits, '.', '_' and '-', got {name!r}"
        )
    kind = Kind(top.text("kind", choices=[k.value for k in Kind]))
    manifest = Manifest(
        name=name,
        kind=kind,
        description=top.text("description", ""),
        max_age_s=top.number("max_age_s", 0.05, 60.0),
        normalisation_sha256=_sha256(top, "normalisation_sha256"),
        graphs=_graphs(top.section("graphs")),
        actions=_closed(top.section("actions"), ActionSpace),
        abilities=_closed(top.section("abilities", {}), Abilities),
        rates=_closed(top.section("rates", {}), Rates),
        model_space=_model_space(top),
        files=_files(top.section("files", {})),
        cache=_cache(top),
    )
    top.close()
    try:
        check_manifest(manifest)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    return manifest


def _closed(section: Section, kind: type[Settings]) -> Settings:
    settings = section.settings(kind)
    section.close()
    return settings


def _sha256(section: Section, key: str) -> str:
    value = section.text(key)
    if not _SHA256.fullmatch(value):
        raise ConfigError(
            f"{section.path(key)} must be a SHA-256 of 64 digits 0-9a-f, got {value[:80]!r}"
        )
    return value


def _files(section: Section) -> dict[str, str]:
    return {name: _sha256(section, name) for name in section.names}


def _model_space(top: Section) -> ModelSpace | None:
    if top.take("model_space", None) is None:
        return None
    section = top.section("model_space")
    try:
        space = ModelSpace(mean=section.numbers("mean"), scale=section.numbers("scale"))
    except ConfigError as error:
        raise ConfigError(f"{section.where}: {error}") from error
    section.close()
    return space


def _cache(top: Section) -> CacheSpec | None:
    if top.take("cache", None) is None:
        return None
    section = top.section("cache")
    graphs = {name: _graph(name, section.section(name)) for name in CACHE_GRAPHS}
    spec = section.settings(CacheSpec, **graphs)
    section.close()
    return spec


def _graphs(section: Section) -> dict[str, GraphSpec]:
    return {name: _graph(name, section.section(name)) for name in section.names}


def _graph(name: str, section: Section) -> GraphSpec:
    graph = GraphSpec(
        name=name,
        file=section.text("file"),
        sha256=_sha256(section, "sha256"),
        inputs=_tensors(section.section("inputs")),
        outputs=_tensors(section.section("outputs")),
    )
    section.close()
    return graph


def _tensors(section: Section) -> tuple[TensorSpec, ...]:
    return tuple(_tensor(name, section.section(name)) for name in section.names)


def _tensor(name: str, section: Section) -> TensorSpec:
    role = Role(section.text("role", choices=[r.value for r in Role]))
    spec = TensorSpec(
        name=name,
        role=role,
        dtype=section.text("dtype", choices=DTYPES),
        shape=_shape(section),
        details=_details(role, section),
        steps=_steps(section),
        source=section.text("source", "") if role is Role.LATENT else "",
    )
    section.close()
    return spec


def _shape(section: Section) -> tuple[Dimension, ...]:
    value = section.take("shape")
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_DIMENSIONS:
        raise ConfigError(
            f"{section.path('shape')} must be a list of 1 to {_MAX_DIMENSIONS} sizes, got {value!r}"
        )
    for i, size in enumerate(value):
        is_size = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _MAX_SIDE
        is_name = i == 0 and isinstance(size, str) and size != ""
        if not is_size and not is_name:
            raise ConfigError(
                f"{section.path('shape')}[{i}] must be 1 to {_MAX_SIDE}"
                f"{', or the name of the batch' if i == 0 else ''}, got {size!r}"
            )
    return tuple(value)


def _steps(section: Section) -> tuple[int, ...]:
    value = section.take("steps", None)
    if value is None:
        return ()
    n = len(section.take("shape"))
    is_list = isinstance(value, list) and len(value) == n
    if not is_list or not all(type(step) is int and 0 <= step <= _MAX_SIDE for step in value):
        raise ConfigError(
            f"{section.path('steps')} must be {n} numbers from 0 to {_MAX_SIDE}, one per size of "
            f"shape, got {value!r}"
        )
    return tuple(value)


def _details(role: Role, section: Section) -> Details:
    match role:
        case Role.IMAGES:
            return section.settings(ImageDetails, cameras=section.texts("cameras"))
        case Role.INSTRUCTION:
            return section.settings(InstructionDetails)
        case Role.STATE:
            return section.settings(StateDetails, fields=section.texts("fields"))
        case Role.NOISE:
            return section.settings(NoiseDetails)
        case Role.LATENT_AGE:
            return section.settings(LatentAgeDetails)
        case _:
            return None
