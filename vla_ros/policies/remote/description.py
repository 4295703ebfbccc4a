# SPDX-License-Identifier: Apache-2.0
"""What a policy server says of its policy: written by one side, checked and read by the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.manifest.section import Section

_LARGEST_HASH = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Description:
    """One part of a policy; 0 and empty is what that part does not have."""

    name: str = setting("", "of the policy")
    max_age_s: float = setting(0.0, "what was seen longer ago is not acted on", ge=0.0, le=1e6)
    chunk_rows: int = setting(0, "rows of a chunk", ge=0, le=1000)
    chunk_dt_ns: int = setting(0, "time between rows", unit="ns", ge=0, le=10**10)
    n_denoising_steps: int = setting(0, "steps from noise to rows", ge=0, le=1000)
    latent_schema_hash: int = setting(0, "of the latent's tensors", ge=0, le=_LARGEST_HASH)
    model_hash: int = setting(0, "of all weights", ge=0, le=_LARGEST_HASH)
    latent_bytes: int = setting(0, "of the latent", unit="bytes", ge=0, le=2**31)
    cameras: tuple[str, ...] = ()
    capabilities: PolicyCapabilities | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def read_description(values: Mapping[str, Any]) -> Description:
    """Return what a server has sent.

    Raises:
        PolicyError: naming what is missing, unknown, of a wrong type or out of range.
    """
    try:
        section = Section(values, "the policy server's description")
        able = section.take("capabilities")
        description = section.settings(
            Description,
            cameras=section.texts("cameras"),
            capabilities=None if able is None else _capabilities(section.section("capabilities")),
        )
        section.close()
    except ConfigError as error:
        raise PolicyError(str(error)) from error
    return description


def _capabilities(section: Section) -> PolicyCapabilities:
    names = [f.name for f in fields(PolicyCapabilities)]
    given = {name: section.take(name) for name in names if name in section.names}
    section.close()
    try:
        return PolicyCapabilities(**given)
    except TypeError as error:
        raise ConfigError(f"{section.where}: horizon or dt_ns is missing") from error
    except ConfigError as error:
        raise ConfigError(f"{section.where}: {error}") from error
