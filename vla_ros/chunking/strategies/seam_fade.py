# SPDX-License-Identifier: Apache-2.0
"""The jump at a switch of plans as an offset that fades: level 2 of the compensation ladder.

    o(t) = (o_0 + (o_0' + o_0 / tau) t) exp(-t / tau)

with o_0 = old(switch) - new(switch) and o_0' the same of their twists (6,): translation and
rotation vector in base. It is the critically damped decay that meets pose *and* twist of the old
plan, so rows + o are C1 over the switch. The gripper is not faded.

Source: axol #191 (offset with exponential decay, C0); made C1 here.

Relation to the control host, which fades what it sees at a switch of segments within 30 ms: that
one is there for any segment, of any source, and short, because it knows nothing of the rows to
come. This one works on rows and is as slow as the policy's rows allow, so the host sees a motion
without a jump and fades only what is left between two rows. One jump is never faded twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rotations import difference
from vla_ros.chunking.rows import (
    Times,
    displaced,
    end_ns,
    resample,
    row_times,
    sample,
    steps_until,
    twist,
)
from vla_ros.chunking.strategies.base import InferenceRequest, Situation, Strategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SeamFadeSettings:
    """Settings of the fade."""

    time_constant_s: float = setting(
        0.1, "time constant of the decaying offset", unit="s", ge=1e-3, le=2.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Offset:
    """Offset (6,) [m, rad] and its rate (6,) at an instant."""

    at_ns: int
    value: Array
    rate: Array

    def values(self, at_ns: Times, tau_s: float) -> Array:
        """Return the offset (n, 6) at the instants ``at_ns`` (n,)."""
        t = 1e-9 * (np.asarray(at_ns, dtype=np.int64) - self.at_ns)[:, None]
        ramp = self.rate + self.value / tau_s
        faded: Array = (self.value + ramp * t) * np.exp(-t / tau_s)
        return faded

    def advanced(self, to_ns: int, tau_s: float) -> Offset:
        """Return the same motion, stated at ``to_ns``."""
        t = 1e-9 * (to_ns - self.at_ns)
        ramp = self.rate + self.value / tau_s
        shrink = np.exp(-t / tau_s)
        value = (self.value + ramp * t) * shrink
        return Offset(to_ns, value, ramp * shrink - value / tau_s)


def jump(old: ActionChunk, new: ActionChunk, at_ns: int) -> Offset:
    """Return where the old rows are, seen from the new ones, at ``at_ns``; zero beyond either."""
    if not (_covers(old, at_ns) and _covers(new, at_ns)):
        return Offset(at_ns, np.zeros(6), np.zeros(6))
    a, b = sample(old, np.array([at_ns])), sample(new, np.array([at_ns]))
    turned = difference(b.quats_xyzw[0], a.quats_xyzw[0])
    value = np.concatenate([a.positions[0] - b.positions[0], turned])
    return Offset(at_ns, value, twist(old, at_ns) - twist(new, at_ns))


def join_rows(
    old: ActionChunk | None, new: ActionChunk, *, now_ns: int, switch_ns: int, tau_s: float
) -> ActionChunk:
    """Return old rows until ``switch_ns`` and new ones, with the faded offset, from then on.

    On the time grid of ``new``, beginning before ``now_ns``. Without old rows at the switch the
    new ones are returned as they are: the arm rests or brakes, and there is no motion to meet.
    """
    if old is None or not _covers(old, switch_ns):
        return new
    lead = steps_until(0, new.dt_ns, new.target0_ns - (now_ns - new.dt_ns))
    start_ns = new.target0_ns - lead * new.dt_ns
    rows = resample(new, start_ns, new.dt_ns, new.horizon + lead)
    times = row_times(rows)
    offsets = jump(old, new, switch_ns).values(np.maximum(times, switch_ns), tau_s)
    faded = displaced(rows, offsets)
    is_old = (times < switch_ns) & (times >= old.target0_ns)
    if is_old.any():
        kept = sample(old, times[is_old])
        faded.positions[is_old] = kept.positions
        faded.quats_xyzw[is_old] = kept.quats_xyzw
        faded.gripper_width_m[is_old] = kept.gripper_width_m
    return faded


class SeamFade:
    """Any strategy, its jumps faded. Plans that go on as they were pass unchanged."""

    def __init__(self, inner: Strategy, settings: SeamFadeSettings) -> None:
        self._inner = inner
        self._tau_s = settings.time_constant_s
        self._last: ActionChunk | None = None
        self._offset: Offset | None = None
        self.name = f"{inner.name}+fade"

    def reset(self) -> None:
        """Forget rows and offset."""
        self._inner.reset()
        self._last = self._offset = None

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Return what the inner strategy asks for."""
        return self._inner.request(situation)

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Hand the result on."""
        self._inner.offer(chunks, request, now_ns)

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Return the inner rows plus what is left of the offset of all switches so far."""
        rows, now_ns = self._inner.plan(situation), situation.now_ns
        old, self._last = self._last, rows
        if rows is None or old is None:
            self._offset = None
            return rows
        step = jump(old, rows, now_ns)
        if self._offset is not None:
            left = self._offset.advanced(now_ns, self._tau_s)
            step = Offset(now_ns, step.value + left.value, step.rate + left.rate)
        self._offset = step
        return displaced(rows, step.values(row_times(rows), self._tau_s))


def _covers(rows: ActionChunk, at_ns: int) -> bool:
    return rows.target0_ns <= at_ns <= end_ns(rows)
