# SPDX-License-Identifier: Apache-2.0
"""Stamps for what a slow policy made: seen when, computed when, published when, good until when."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.latency.stamp import LatencyStamp, StampFlags, StampKind
from vla_ros.types import Observation

_SHORTEST_RAMP_NS = 150_000_000  # from 0.45 m/s to rest at 3 m/s²


def hash64(text: str) -> int:
    """Return a stable 64-bit hash of a text (first 8 bytes of SHA-256)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def schema_hash(tensors: Mapping[str, NDArray[np.generic]], normalisation: str = "") -> int:
    """Return the hash of names, types and shapes: equal for two latents that mean the same.

    ``normalisation``: hash of the statistics that the values are scaled by; latents of equal shape
    and different statistics do not mean the same.
    """
    parts = [f"{name}:{value.dtype.str}:{value.shape}" for name, value in sorted(tensors.items())]
    if normalisation:
        parts.append(f"normalisation:{normalisation}")
    return hash64(";".join(parts))


def validity_ns(max_age_ns: int, latency_p95_ns: int, period_ns: int) -> int:
    """Return how long after its capture a latent may be acted on.

    Twice the p95 latency plus a period: long enough that the next latent normally arrives first,
    even when both are slow; never longer than the policy says its output stays true.
    """
    return min(max_age_ns, 2 * latency_p95_ns + period_ns)


def soft_validity_ns(validity_ns: int, latency_p95_ns: int, period_ns: int) -> int:
    """Return how long after its capture a latent is followed at full speed; 0: until it expires.

    Until the next latent is normally there (p95 latency plus a period), at most three quarters of
    the validity. What is left must be long enough to slow down more gently than the brake does.
    """
    soft_ns = min(latency_p95_ns + period_ns, 3 * validity_ns // 4)
    return soft_ns if validity_ns - soft_ns >= _SHORTEST_RAMP_NS else 0


@dataclass(frozen=True, kw_only=True)
class InferenceTimes:
    """When the runtime did what, for one latent [ns]."""

    request_ns: int
    start_ns: int
    end_ns: int
    publish_ns: int


def stamp_latent(
    observation: Observation,
    tensors: Mapping[str, NDArray[np.generic]],
    times: InferenceTimes,
    *,
    seq: int,
    validity_ns: int,
    soft_validity_ns: int = 0,
    model_hash: int = 0,
    declared_schema: int = 0,
    confidence: float = 1.0,
    is_warmup: bool = False,
    is_cached: bool = False,
    clock_id: bytes = bytes(16),
) -> LatencyStamp:
    """Return the stamp of a latent computed from ``observation``.

    ``validity_ns`` and ``soft_validity_ns`` count from the oldest capture; a soft one of 0 means
    full speed until the latent expires. ``declared_schema``: the schema hash that the policy states
    for its latents (``LatentContract``); 0: that of the tensors. ``is_cached``: what was made of
    earlier images, and still holds, is in it; instants are those of the observation all the same.
    ``clock_id`` is the boot id of the host whose clock all times are of; zeros in virtual time.
    """
    capture_ns = observation.capture_oldest_ns
    warmup = StampFlags.WARMUP if is_warmup else StampFlags.NONE
    return LatencyStamp(
        kind=StampKind.LATENT,
        flags=warmup | (StampFlags.CACHED if is_cached else StampFlags.NONE),
        clock_id=clock_id,
        seq=seq,
        anchor_seq=observation.state.seq,
        episode_id=observation.episode_id,
        instruction_id=observation.instruction_id,
        instruction_hash=hash64(observation.instruction),
        model_hash=model_hash,
        schema_hash=declared_schema or schema_hash(tensors),
        capture_oldest_ns=capture_ns,
        capture_newest_ns=observation.capture_newest_ns,
        state_ns=observation.state.tick_ns,
        request_ns=times.request_ns,
        infer_start_ns=times.start_ns,
        infer_end_ns=times.end_ns,
        publish_ns=times.publish_ns,
        soft_expire_ns=capture_ns + soft_validity_ns if soft_validity_ns else 0,
        hard_expire_ns=capture_ns + validity_ns,
        confidence=confidence,
    )
