# SPDX-License-Identifier: Apache-2.0
"""A fast policy that can do everything, and what it is asked."""

from __future__ import annotations

import numpy as np
from policy_stubs import DT_NS, ROWS, rows_at
from strategy_samples import make_observation

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Prefix
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation

NOW = 10_000_000_000
ABLE = PolicyCapabilities(
    horizon=ROWS,
    dt_ns=DT_NS,
    is_guided=True,
    trained_prefix_max=4,
    has_split_latent=True,
    has_age_input=True,
    n_candidates=2,
    has_scores=True,
)
TIMING = CallTiming(pre_ns=3, queue_ns=5, compute_ns=7, post_ns=11)
LATENT = Latent(
    tensors={"goal": np.zeros(3, np.float32), "step": np.ones(1, np.int64)},
    stamp=LatencyStamp(kind=StampKind.LATENT),
)


class AbleFast:
    """A fast policy with every ability; remembers what it was asked."""

    name = "able"
    chunk_rows, chunk_dt_ns = ROWS, DT_NS
    capabilities = ABLE
    cameras = ("wrist_camera",)
    latent_schema_hash, model_hash, latent_bytes = 12, 34, 56
    last_timing: CallTiming | None = None

    def __init__(self) -> None:
        self.requests: list[InferenceRequest] = []

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        raise AssertionError("it answers requests")

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        self.requests.append(request)
        self.last_timing = TIMING
        rows = np.tile([0.4, 0.0, 0.3], (ROWS, 1))
        return tuple(
            rows_at(rows + np.array([0.0, 0.01 * k, 0.0]), request.target0_ns) for k in range(2)
        )

    def reset(self) -> None:
        self.requests.clear()


def request(**fields: object) -> InferenceRequest:
    settings = {"observation": make_observation(NOW), "target0_ns": NOW, "dt_ns": DT_NS, "seq": 9}
    return InferenceRequest(**{**settings, **fields})


def prefix_of(positions: np.ndarray) -> Prefix:
    return Prefix(rows=rows_at(positions, NOW), frozen_len=3, weights=np.linspace(1, 0, ROWS))
