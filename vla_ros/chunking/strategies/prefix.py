# SPDX-License-Identifier: Apache-2.0
"""The running plan as a prefix of the next chunk."""

from __future__ import annotations

from vla_ros.chunking.rows import end_ns, resample, steps_until
from vla_ros.chunking.strategies.base import Prefix
from vla_ros.chunking.strategies.denoising import prefix_weights
from vla_ros.types import ActionChunk


def make_prefix(
    plan: ActionChunk,
    *,
    target0_ns: int,
    horizon: int,
    arrival_ns: int,
    schedule: str,
    end: int = 0,
    frozen_min: int = 0,
    bound_min: int = 0,
    frozen_max: int = 0,
    max_guidance_weight: float = 5.0,
) -> Prefix | None:
    """Return the rows of ``plan`` on the grid of a request that will be answered at ``arrival_ns``.

    Args:
        plan: the running plan.
        target0_ns: row 0 of the request [ns].
        horizon: rows of a chunk, H.
        arrival_ns: rows due before it are frozen [ns].
        schedule: of the weights after the frozen rows.
        end: first row that is not bound; 0: the first one that the plan does not have (H - s).
        frozen_min: rows frozen in any case, as far as the plan has them.
        bound_min: rows that are bound fully, though they may still change.
        frozen_max: most rows that may be frozen; 0: no limit.
        max_guidance_weight: handed on.

    Returns:
        None if the plan has no row at or after ``target0_ns``.
    """
    left = min((end_ns(plan) - target0_ns) // plan.dt_ns + 1, horizon)
    if left < 1:
        return None
    due = steps_until(target0_ns, plan.dt_ns, arrival_ns)
    frozen = min(max(due, frozen_min), left)
    if frozen_max > 0:
        frozen = min(frozen, frozen_max)
    bound = min(end or left, left)
    full = max(frozen, min(bound_min, left))
    return Prefix(
        rows=resample(plan, target0_ns, plan.dt_ns, horizon),
        frozen_len=frozen,
        weights=prefix_weights(schedule, full, max(bound, full), horizon),
        max_guidance_weight=max_guidance_weight,
    )
