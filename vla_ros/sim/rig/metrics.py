# SPDX-License-Identifier: Apache-2.0
"""What is written down about one episode, and how it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.chunking.rows import end_ns, sample
from vla_ros.sim.rig.expert import DOWN_QUAT_XYZW
from vla_ros.sim.rig.scenario import WIPES_FROM_S, Scenario, Task, Verdict
from vla_ros.types import ActionChunk, ControlMode

Array = NDArray[np.float64]

_EVERY = 5  # ticks between the samples that jerk is computed from
_COLUMNS = (
    "tick_ns",
    "mode",
    "position",
    "twist",
    "ref_twist",
    "segment_capture_ns",
    "wrench_external",
)
WANTED_N = 5.0
_STALE_NS = 500_000_000
_SETTLED_S = 2.0  # tracking is judged from here on


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One row of an experiment's table. Not a number where there was nothing to measure.

    Attributes:
        grasp_error_m: distance to the object when the gripper closed.
        track_rmse_m: distance to what is followed, after 2 s.
        seam_m_p95: largest steps of the commanded position at a change of plan, and
            ``chunk_step_m_p95`` within a plan; both over one ``dt``. ``seam_ratio``: their ratio.
        ref_jump_m_s: largest change of the reference's velocity within one tick.
        jerk_rms_m_s3: of the end effector.
        age_p50_s, age_max_s: from capture to execution, of the rows in force.
        idle_share: ticks without rows to execute, after the first ones.
        grasped_wrong: 1 if another object was grasped than the instruction in force means.
        overrun_m: largest distance travelled after the last row of a stalled policy, and
            ``recovery_s`` from the end of the stall to the next executed row.
        stale_travel_m: way of the end effector on rows whose cause was older than 0.5 s.
        force_rmse_n, force_peak_n: of the force on the surface that the control host estimates
            (time constant 20 ms), while wiping; the former about 5 N. contact_share: above 0.5 N.
        reaction_s: from the event to the first executed row that could know of it.
        rows_after_expiry: counted by the control host.
    """

    seed: int
    success: bool
    reason: str
    end_s: float
    grasped: int
    grasped_wrong: int
    grasp_error_m: float
    track_rmse_m: float
    seam_m_p95: float
    chunk_step_m_p95: float
    seam_ratio: float
    ref_jump_m_s: float
    jerk_rms_m_s3: float
    age_p50_s: float
    age_max_s: float
    idle_share: float
    reaction_s: float
    overrun_m: float
    recovery_s: float
    stale_travel_m: float
    force_rmse_n: float
    force_peak_n: float
    contact_share: float
    inferences: int
    slow_inferences: int
    rows_after_expiry: int


class Recorder:
    """Collects ticks and plans of one episode."""

    def __init__(self, dt_ns: int, start_ns: int) -> None:
        self._dt_ns = dt_ns
        self._start_ns = start_ns
        self._columns: list[dict[str, Any]] = []
        self._previous: tuple[ActionChunk, int] | None = None
        self._seams: list[float] = []
        self._steps: list[float] = []
        self._segments = 0
        self._stall_ns: tuple[int, int] | None = None
        self.inferences = 0
        self.slow_inferences = 0

    def next_segment(self) -> int:
        """Return the number of the next segment."""
        self._segments += 1
        return self._segments

    def expect_stall(self, begin_ns: int, end_ns: int) -> None:
        """Say when the policy stands still."""
        self._stall_ns = (begin_ns, end_ns)

    @staticmethod
    def yaw(quats_xyzw: Array) -> Array:
        """Return the yaw (n,) [rad] of hands (n, 4) that point down."""
        yaw: Array = rotations.difference(DOWN_QUAT_XYZW, quats_xyzw)[:, 2]
        return yaw

    def add_ticks(self, columns: dict[str, Any]) -> None:
        """Take what the control host published."""
        self._columns.append(columns)

    def add_plan(self, plan: ActionChunk | None, now_ns: int) -> None:
        """Take the plan that is in force from now on."""
        before, self._previous = self._previous, None
        if plan is None:
            return
        self._previous = (plan, now_ns)
        at = np.array([now_ns - self._dt_ns, now_ns])
        here = sample(plan, at).positions
        if at[0] >= plan.target0_ns:
            self._steps.append(float(np.linalg.norm(here[1] - here[0])))
        elif plan.horizon > 1:
            self._steps.append(float(np.linalg.norm(plan.positions[1] - plan.positions[0])))
        if before is not None and end_ns(before[0]) >= now_ns - self._dt_ns:
            last = sample(before[0], at[:1]).positions[0]
            if not _goes_on(before[0], plan, now_ns):
                self._seams.append(float(np.linalg.norm(here[1] - last)))

    def result(
        self, *, seed: int, verdict: Verdict, scenario: Scenario, counters: dict[str, int]
    ) -> EpisodeResult:
        """Return the numbers of the episode."""
        joined = {
            name: np.concatenate([np.asarray(c[name]) for c in self._columns])
            for name in (
                "tick_ns",
                "mode",
                "position",
                "twist",
                "ref_twist",
                "segment_capture_ns",
                "wrench_external",
            )
        }
        t_s = (joined["tick_ns"] - self._start_ns) * 1e-9
        tracking = joined["mode"] == int(ControlMode.TRACK)
        began = int(np.argmax(tracking)) if tracking.any() else len(tracking)
        seam, step = _p95(self._seams), _p95(self._steps)
        overrun_m, recovery_s = _stall(self._stall_ns, joined, tracking)
        rmse_n, peak_n, contact = _force(scenario, t_s, joined["wrench_external"])
        ages = (joined["tick_ns"] - joined["segment_capture_ns"])[tracking] * 1e-9
        return EpisodeResult(
            seed=seed,
            success=verdict.success,
            reason=verdict.reason,
            end_s=verdict.at_s,
            grasped=verdict.grasped,
            grasped_wrong=int(verdict.reason == "wrong object"),
            grasp_error_m=verdict.grasp_error_m,
            track_rmse_m=_track_rmse(scenario, t_s, joined["position"]),
            seam_m_p95=seam,
            chunk_step_m_p95=step,
            seam_ratio=seam / step if step > 0.0 else float("nan"),
            overrun_m=overrun_m,
            recovery_s=recovery_s,
            force_rmse_n=rmse_n,
            force_peak_n=peak_n,
            contact_share=contact,
            stale_travel_m=_stale_travel(t_s, joined, tracking),
            ref_jump_m_s=_largest_jump(joined["ref_twist"]),
            jerk_rms_m_s3=_jerk(t_s, joined["twist"]),
            age_p50_s=float(np.median(ages)) if len(ages) else float("nan"),
            age_max_s=float(ages.max()) if len(ages) else float("nan"),
            idle_share=1.0 - float(tracking[began:].mean()) if began < len(tracking) else 1.0,
            reaction_s=_reaction(scenario, t_s, joined, self._start_ns, tracking),
            inferences=self.inferences,
            slow_inferences=self.slow_inferences,
            rows_after_expiry=counters["rows_after_expiry"],
        )


def _goes_on(before: ActionChunk, plan: ActionChunk, now_ns: int) -> bool:
    """Whether a plan is only the rest of the one before: the same rows at the same times."""
    if before is plan:
        return True
    shift, odd = divmod(plan.target0_ns - before.target0_ns, before.dt_ns)
    if odd or shift < 0 or shift >= before.horizon:
        return False
    n = min(before.horizon - shift, plan.horizon)
    same = np.array_equal(before.positions[shift : shift + n], plan.positions[:n])
    return same and now_ns >= plan.target0_ns


def _p95(values: list[float]) -> float:
    return float(np.percentile(values, 95)) if values else float("nan")


def _stall(
    stall_ns: tuple[int, int] | None, joined: dict[str, Any], tracking: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return how far the arm went after the last row that was not stalled, and the recovery."""
    if stall_ns is None:
        return float("nan"), float("nan")
    tick_ns, capture_ns = joined["tick_ns"], joined["segment_capture_ns"]
    begin_ns, end_ns = stall_ns
    during = (tick_ns >= begin_ns) & (tick_ns < end_ns)
    idle = np.flatnonzero(during & ~tracking)
    held = np.flatnonzero(during)
    if not len(held):
        return float("nan"), float("nan")
    first = idle[0] if len(idle) else held[-1]
    path = joined["position"][first : held[-1] + 1]
    overrun_m = float(np.sqrt(((path - path[0]) ** 2).sum(axis=1)).max())
    back = np.flatnonzero(tracking & (tick_ns >= end_ns) & (capture_ns >= end_ns))
    recovery_s = float((tick_ns[back[0]] - end_ns) * 1e-9) if len(back) else float("nan")
    return overrun_m, recovery_s


def _force(scenario: Scenario, t_s: Array, wrench: Array) -> tuple[float, float, float]:
    wiping = t_s >= WIPES_FROM_S
    if scenario.task is not Task.WIPE or not wiping.any():
        return float("nan"), float("nan"), float("nan")
    force = wrench[wiping, 2]
    rmse_n = float(np.sqrt(((force - WANTED_N) ** 2).mean()))
    return rmse_n, float(force.max()), float((force > 0.5).mean())


def _stale_travel(t_s: Array, joined: dict[str, Any], tracking: NDArray[np.bool_]) -> float:
    is_stale = (joined["tick_ns"] - joined["segment_capture_ns"] > _STALE_NS) & tracking
    speed = np.sqrt((joined["twist"][:, :3] ** 2).sum(axis=1))
    return float(speed[is_stale].sum() * np.median(np.diff(t_s)))


def _largest_jump(ref_twist: Array) -> float:
    if len(ref_twist) < 2:
        return float("nan")
    return float(np.sqrt((np.diff(ref_twist[:, :3], axis=0) ** 2).sum(axis=1)).max())


def _jerk(t_s: Array, twist: Array) -> float:
    velocity, t = twist[::_EVERY, :3], t_s[::_EVERY]
    if len(t) < 4:
        return float("nan")
    dt = float(np.median(np.diff(t)))
    jerk = np.diff(velocity, n=2, axis=0) / dt**2
    return float(np.sqrt((jerk**2).sum(axis=1).mean()))


def _track_rmse(scenario: Scenario, t_s: Array, position: Array) -> float:
    late = np.flatnonzero(t_s >= _SETTLED_S)[::_EVERY]
    if scenario.task not in (Task.BELT, Task.TRACK) or not len(late):
        return float("nan")
    there = np.array([scenario.target_at(float(t)).position for t in t_s[late]])
    return float(np.sqrt(((position[late] - there) ** 2).sum(axis=1).mean()))


def _reaction(
    scenario: Scenario,
    t_s: Array,
    joined: dict[str, Any],
    start_ns: int,
    tracking: NDArray[np.bool_],
) -> float:
    if not scenario.has_event:
        return float("nan")
    event_ns = start_ns + round(scenario.event_s * 1e9)
    knows = np.flatnonzero(tracking & (joined["segment_capture_ns"] >= event_ns))
    return float(t_s[knows[0]] - scenario.event_s) if len(knows) else float("nan")
