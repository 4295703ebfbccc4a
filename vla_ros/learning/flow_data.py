# SPDX-License-Identifier: Apache-2.0
"""What the flow head is trained on: what a frozen policy sees in demonstrations, and right rows.

Trunk and expert are run once over drawn batches; the head then trains from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.flow_config import DetourConfig, ScatterConfig
from vla_ros.learning.flow_head import MEAN, SCALE, seen_by_flow, to_model
from vla_ros.learning.losses import run_batch
from vla_ros.learning.model_config import ModelConfig
from vla_ros.learning.parameters import Arrays, to_tensors
from vla_ros.learning.relative_rows import CHUNK_DT_NS, CHUNK_ROWS
from vla_ros.learning.sampling import BatchSampler

_LEAST_SPREAD = 0.01  # in units of model space

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FlowPool:
    """N steps of demonstrations.

    Attributes:
        seen: (N, n), see ``seen_by_flow``.
        base: (N, H, A) the expert's rows, in model space.
        rows: (N, H, A) right actions.
    """

    seen: Array
    base: Array
    rows: Array

    def __len__(self) -> int:
        return len(self.seen)


def make_pool(
    weights: Arrays,
    config: ModelConfig,
    sampler: BatchSampler,
    batches: int,
    tell: Callable[[], None] = lambda: None,
) -> FlowPool:
    """Run a trained policy over batches; ``tell`` is called after each."""
    import torch

    p = to_tensors(weights, trained=False)
    parts = []
    for number in range(batches):
        batch = sampler.batch(number)
        with torch.no_grad():
            out = run_batch(p, config, batch).expert
            seen = seen_by_flow(out, torch.from_numpy(batch.state))
            parts.append((seen.numpy(), to_model(out.actions).numpy(), batch.rows))
        tell()
    return FlowPool(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def scatter(rows: Array, config: ScatterConfig, random: np.random.Generator) -> Array:
    """Return actions (N, H, A) that deviate as a hand does: the farther, the longer the way.

        p_i <- p_i + i / (H - 1) share |p_i| e,    e ~ N(0, I), one of each chunk

    and turns alike. Demonstrations of a planner have no scatter of their own, and a policy
    without any has nothing that guidance could change. Where nothing moves, nothing scatters.

    Source: signal-dependent noise, Harris and Wolpert, Nature 394, 1998.
    """
    grows = np.linspace(0.0, 1.0, CHUNK_ROWS, dtype=np.float32)[:, None]
    way = np.linalg.norm(rows[..., :3], axis=-1, keepdims=True)
    noise = random.standard_normal((len(rows), 1, 4)).astype(np.float32)
    moved = rows[..., :3] + config.way_share * grows * way * noise[..., :3]
    turn = np.arctan2(rows[..., 3:4], rows[..., 4:5])
    turn = turn * (1.0 + config.turn_share * grows * noise[..., 3:])
    return np.concatenate([moved, np.sin(turn), np.cos(turn), rows[..., 5:]], axis=-1)


def make_detours(
    rows: Array, n_prefix: NDArray[np.int64], config: DetourConfig, random: np.random.Generator
) -> Array:
    """Return actions (N, H, A) whose prefix, of n (N, 1) rows, may lead elsewhere, and back after.

        p_i <- p_i + dt e min(i, n - 1) exp(-max(0, i - n + 1) dt / return_s)

    and turns alike; of some, the gripper does the opposite for the length of the prefix. A prefix
    is what an older plan is about to do, and older plans are wrong. A head that knows prefixes of
    right plans alone goes on where a wrong one leads, and the next plan begins there.
    """
    dt_s = 1e-9 * CHUNK_DT_NS
    index = np.arange(CHUNK_ROWS)[None]
    after = np.maximum(0, index - n_prefix + 1)
    size_s = dt_s * np.minimum(index, np.maximum(n_prefix - 1, 0))
    size_s = (size_s * np.exp(-after * dt_s / config.return_s)).astype(np.float32)[..., None]
    n = len(rows)
    is_led = (random.random((n, 1, 1)) < config.detour_share).astype(np.float32)
    noise = is_led * random.standard_normal((n, 1, 4)).astype(np.float32)
    slips = (is_led > 0) & (random.random((n, 1, 1)) < config.slip_share)
    moved = rows[..., :3] + config.detour_m_s * size_s * noise[..., :3]
    turn = (
        np.arctan2(rows[..., 3:4], rows[..., 4:5]) + config.detour_rad_s * size_s * noise[..., 3:]
    )
    gripper = np.where(
        slips & (index < n_prefix)[..., None], 2 * MEAN[5] - rows[..., 5:], rows[..., 5:]
    )
    made = np.concatenate([moved, np.sin(turn), np.cos(turn), gripper], axis=-1)
    return made.astype(np.float32)


def spread_of(pool: FlowPool, config: ScatterConfig, seed: int) -> Array:
    """Return how far right rows lie from the expert's (H, A): root mean square, in model space."""
    rows = scatter(pool.rows, config, np.random.default_rng([seed, 51]))
    away = (rows - np.array(MEAN)) / np.array(SCALE) - pool.base
    found = np.sqrt(np.mean(away**2, axis=0))
    return np.asarray(np.maximum(found, _LEAST_SPREAD), dtype=np.float32)


def draw_prefix_rows(
    n: int, longest: int, delays: LatencyHistogram, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return lengths of prefixes (n, 1): the rows that pass in a latency drawn from a histogram.

    A latency longer than the longest prefix stands for any length: no prefix covers it.
    """
    weights = np.array(delays.weights) / sum(delays.weights)
    latencies = np.array(delays.latencies_s)[random.choice(len(weights), size=n, p=weights)]
    rows = np.ceil(latencies * 1e9 / CHUNK_DT_NS).astype(np.int64)
    anything = random.integers(0, longest + 1, size=n)
    return np.where(rows > longest, anything, rows)[:, None]
