# SPDX-License-Identifier: Apache-2.0
"""Ours: act by time, and use all of what the policy is able to.

The tie to the running plan, best first:

    guided     rows from now + delay on, guided by those of the plan with weights as in RTC; the
               state shown is the projected one                     (is_guided)
    trained    rows from now on; those due before now + delay are a clean prefix
                                                                    (trained_prefix_max)
    projected  rows from now + delay on; the state shown is that of the first new row, from the
               committed rows pushed through the tracking model     (takes_projected_state)
    by time    rows from now on, the state shown is measured; those due before now + delay are
               guided to be the plan's, or skipped                  (any policy)
    split      the fast half sees fresh state at every step          (has_split_latent)

When it asks:

    split                           at every step
    delay <= continuous_below_s     as soon as nothing is in flight
    otherwise                       when the committed rows last no longer than delay + margin

A state that is not where the images show the arm to be misleads a policy that was not trained with
such states: it corrects what it sees, most of all in a camera on the wrist. Such a policy is asked
by time, guided or not. A chunk that would then have fewer rows left at its arrival than are
committed to is not asked for before the plan has ended.

What it executes: old rows until the first new one may begin (they were promised to the policy),
then the new rows at their own times plus the offset at the seam, faded C1 (``seam``). A late chunk
is entered where it is due. From rest, rows are asked for from the arrival on, so that none is
skipped. Rows of a relative policy are anchored at the state shown, so a projected one re-anchors
them to where the arm will be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.chunking.projection import ImpedanceModel, last_row_state, project_state
from vla_ros.chunking.rows import end_ns, steps_until
from vla_ros.chunking.seam import join_rows
from vla_ros.chunking.strategies.base import (
    Guidance,
    InferenceRequest,
    PolicyCapabilities,
    Prefix,
    Situation,
)
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.chunking.strategies.denoising import SCHEDULES
from vla_ros.chunking.strategies.prefix import make_prefix
from vla_ros.config_fields import setting
from vla_ros.types import ActionChunk


@dataclass(frozen=True, kw_only=True)
class TimedSettings(ImpedanceModel):
    """Settings of ``timed``; the model is for policies without prefix."""

    execution_horizon: int = setting(
        0,
        "rows of a chunk committed to; 0: as many as the policy says, else half the chunk",
        unit="rows",
        ge=0,
        le=1000,
    )
    margin_s: float = setting(
        0.02, "added to the delay when deciding to ask", unit="s", ge=0.0, le=10.0
    )
    continuous_below_s: float = setting(
        0.1, "delay up to which it always asks", unit="s", ge=0.0, le=10.0
    )
    projection: str = setting(
        "auto",
        "how the state is predicted; none: it is not, rows are entered by time; auto: by impedance "
        "if the policy takes such states",
        choices=("auto", "impedance", "last_row", "none"),
    )
    # One ties the pose. Where every step asks, two would tie the speed too: the plan would go on as
    # it began, whatever is seen.
    min_prefix: int = setting(1, "rows bound fully in any case", ge=0, le=100)
    # All keep the arm to the side begun, however often it asks; but they hold it to rows that were
    # made long ago. Few let it follow what is seen: better where rows scatter more further ahead.
    # A matter of the policy.
    bound_rows: int = setting(
        0, "rows from the first new one on that guide at all; 0: all there are", ge=0, le=1000
    )
    schedule: str = setting("exp", "weights after the frozen rows", choices=SCHEDULES)
    # With n steps of denoising a factor of n closes the whole error in one; with half of that the
    # tie to the side begun was lost once in a hundred chunks.
    max_guidance_weight: float = setting(10.0, "largest factor of the correction", ge=0.0, le=100.0)
    # Short: while it lasts the rows are not where the policy wants them.
    fade_s: float = setting(
        0.03, "time constant of the offset at a seam", unit="s", ge=1e-3, le=2.0
    )


def best_guidance(capabilities: PolicyCapabilities) -> Guidance:
    """Return the tie to the running plan to use with a policy.

    The identity Jacobian before the true one: with a factor of at most the number of steps its
    correction closes at most the whole error. The true one can overshoot where rows scatter much,
    and asked for at every step the plan then ran away from one chunk to the next.
    """
    if capabilities.is_guided:
        return Guidance.IDENTITY
    return Guidance.TRAINED if capabilities.trained_prefix_max > 0 else Guidance.NONE


class Timed(PlanStrategy):
    """Replans by remaining time.

    Attributes:
        guidance: the tie in use.
        late_joins: chunks that came after the first row they were made for.
    """

    name = "timed"

    def __init__(self, capabilities: PolicyCapabilities, settings: TimedSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings
        is_split = capabilities.has_split_latent
        self.guidance = Guidance.NONE if is_split else best_guidance(capabilities)
        self._projection = settings.projection
        if settings.projection == "auto":
            self._projection = "impedance" if capabilities.takes_projected_state else "none"
        self._wanted = (
            settings.execution_horizon or capabilities.execution_rows or capabilities.horizon // 2
        )
        self.late_joins = 0

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Ask when the committed rows last no longer than the inference."""
        now_ns, plan = situation.now_ns, self._plan
        if situation.in_flight > 0:
            return None
        if plan is not None and end_ns(plan) <= now_ns:
            plan = None
        if self._capabilities.has_split_latent:
            return self._ask(situation)
        if plan is None:
            return self._ask(situation, target0_ns=now_ns + situation.delay_ns)
        if not self._is_time(situation):
            return None
        if self.guidance is Guidance.TRAINED:
            return self._ask_continued(situation, plan)
        if self._projection == "none":
            return self._ask_by_time(situation, plan)
        return self._ask_projected(situation, plan)

    def _is_time(self, situation: Situation) -> bool:
        delay_s = 1e-9 * situation.delay_ns
        committed_ns = self.began_ns + self._wanted * self.dt_ns
        # Until the next step the committed rows last dt less.
        left_s = 1e-9 * (committed_ns - situation.now_ns - self.dt_ns)
        return delay_s <= self._settings.continuous_below_s or (
            left_s < delay_s + self._settings.margin_s
        )

    def _ask_continued(self, situation: Situation, plan: ActionChunk) -> InferenceRequest:
        """Ask for rows from now on, of which those due before the arrival are the plan's."""
        prefix = make_prefix(
            plan,
            target0_ns=self._grid_ns(situation.now_ns),
            horizon=self.horizon,
            arrival_ns=situation.now_ns + situation.delay_ns,
            schedule="zeros",
            frozen_min=self._settings.min_prefix,
            frozen_max=self._capabilities.trained_prefix_max,
        )
        return self._ask(situation, prefix=prefix, guidance=self.guidance)

    def _ask_by_time(self, situation: Situation, plan: ActionChunk) -> InferenceRequest | None:
        """Ask for rows from now on, guided by all that the plan still has."""
        delay_rows = -(-situation.delay_ns // self.dt_ns)
        if delay_rows + self._wanted > self.horizon:
            return None
        grid_ns = self._grid_ns(situation.now_ns)
        ready_ns = situation.now_ns + situation.delay_ns
        prefix = self._guided_by(plan, grid_ns, ready_ns)
        return self._ask(situation, prefix=prefix, guidance=self._guidance_with(prefix))

    def _ask_projected(self, situation: Situation, plan: ActionChunk) -> InferenceRequest:
        """Ask for rows from the arrival on, with the state of then, guided by the rows of then."""
        grid_ns = self._grid_ns(situation.now_ns)
        ready_ns = situation.now_ns + situation.delay_ns
        first_ns = grid_ns + steps_until(grid_ns, self.dt_ns, ready_ns) * self.dt_ns
        if self._projection == "last_row":
            state = last_row_state(situation.state, plan, first_ns)
        else:
            state = project_state(situation.state, plan, first_ns, self._settings)
        prefix = self._guided_by(plan, first_ns, first_ns)
        return self._ask(
            situation,
            observation=replace(situation.observation, state=state),
            target0_ns=first_ns,
            prefix=prefix,
            guidance=self._guidance_with(prefix),
        )

    def _guided_by(self, plan: ActionChunk, target0_ns: int, arrival_ns: int) -> Prefix | None:
        if self.guidance is Guidance.NONE:
            return None
        bound = self._settings.bound_rows
        return make_prefix(
            plan,
            target0_ns=target0_ns,
            horizon=self.horizon,
            arrival_ns=arrival_ns,
            schedule=self._settings.schedule,
            end=bound and bound + steps_until(target0_ns, plan.dt_ns, arrival_ns),
            bound_min=self._settings.min_prefix,
            max_guidance_weight=self._settings.max_guidance_weight,
        )

    def _guidance_with(self, prefix: Prefix | None) -> Guidance:
        return Guidance.NONE if prefix is None else self.guidance

    def _rows_of(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> ActionChunk:
        return chunks[0]

    def _joined(self, new: ActionChunk, request: InferenceRequest, now_ns: int) -> ActionChunk:
        if self._capabilities.has_split_latent:
            return self._led_over(new, now_ns)
        frozen = 0 if request.prefix is None else request.prefix.frozen_len
        first_ns = new.target0_ns + frozen * new.dt_ns
        # Rows from the present on that nothing binds are late by design.
        is_free = self._projection == "none" and request.prefix is None
        self.late_joins += int(now_ns > first_ns and not is_free)
        switch_ns = max(now_ns, first_ns)
        return self._join(new, now_ns, switch_ns, self._settings.fade_s)

    def _led_over(self, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return new rows that begin where the old ones are at ``now_ns``.

        None of the old rows is in force, not even until the next row: they may expire before the
        new ones. Only how far away they are is taken from them.
        """
        if now_ns < new.target0_ns:
            return new
        return join_rows(
            self._plan,
            new,
            now_ns=now_ns,
            switch_ns=now_ns,
            tau_s=self._settings.fade_s,
            old_until_ns=new.target0_ns,
        )
