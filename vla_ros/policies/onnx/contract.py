# SPDX-License-Identifier: Apache-2.0
"""What a manifest says about a policy, in the terms of the runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.latency.stamping import hash64, schema_hash
from vla_ros.perception import tick_code
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import GraphSpec, Kind, Manifest, Role, TensorSpec
from vla_ros.types import Observation


def capabilities_of(manifest: Manifest) -> PolicyCapabilities:
    """Return what the policy can do. Rows leave the runtime as poses in base, never relative."""
    abilities, actions = manifest.abilities, manifest.actions
    return PolicyCapabilities(
        horizon=actions.rows,
        dt_ns=actions.dt_ns,
        execution_rows=actions.execution_rows,
        is_guided=abilities.denoising_steps > 0,
        has_vjp=abilities.vjp,
        trained_prefix_max=abilities.prefix_rows_max,
        has_split_latent=manifest.kind is Kind.SPLIT,
        has_age_input=abilities.age_input,
        n_candidates=abilities.candidates,
        has_scores=abilities.ranking != "none",
        has_uncertainty=abilities.uncertainty,
        takes_projected_state=abilities.projected_state,
    )


def latent_tensors(graph: GraphSpec) -> tuple[TensorSpec, ...]:
    """Return the outputs of a graph that make up the latent."""
    return tuple(tensor for tensor in graph.outputs if tensor.role is Role.LATENT)


def latent_schema_hash(manifest: Manifest) -> int:
    """Return the hash of names, types, shapes and normalisation of the latent."""
    tensors = {tensor.name: tensor.zeros() for tensor in latent_tensors(manifest.graphs["slow"])}
    return schema_hash(tensors, manifest.normalisation_sha256)


def model_hash(folder: PolicyFolder) -> int:
    """Return the hash of all weights: what one half writes is meant for the other half of it."""
    manifest = folder.manifest
    parts = [f"{name}:{sha256}" for name, sha256 in sorted(manifest.all_files.items())]
    return hash64(";".join(parts))


def exposure_proof(
    observation: Observation, cameras: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Return the strip of an image that holds its exposure time, as tensor ``tick_code``.

    By it anybody can prove how old a latent is, whatever its stamp says. Empty where no image is
    wide enough to have one.
    """
    for name in cameras:
        frame = observation.frames.get(name)
        if frame is not None and frame.rgb.shape[1] >= tick_code.CODE_WIDTH:
            return {"tick_code": tick_code.strip_of(frame.rgb)}
    return {}
