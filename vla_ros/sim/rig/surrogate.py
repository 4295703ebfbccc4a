# SPDX-License-Identifier: Apache-2.0
"""The scripted expert as a policy: a flow policy whose rows scatter about the expert's plans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.config_fields import check_fields, setting
from vla_ros.policies.flow_mixture import FlowMixturePolicy, ModelSpace
from vla_ros.policies.gaussian_flow import Modes, Spread
from vla_ros.sim.rig.expert import Expert, ExpertConfig, Sight
from vla_ros.sim.rig.scenario import Scenario
from vla_ros.types import ActionChunk, Observation

# Of the order of the scatter, so that ten steps of denoising keep it.
_SPACE = ModelSpace(position_m=0.003, rotation_rad=0.01, gripper_m=0.003, gripper_mean_m=0.05)
_MIN_ODDS = 1e-6


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What the policy is able to do, and how far its rows scatter."""

    row_sigma_m: float = setting(
        0.0003, "standard deviation of the first row", unit="m", ge=1e-5, le=0.1
    )
    row_growth_m: float = setting(
        0.0002, "what every further row adds to it", unit="m", ge=0.0, le=0.05
    )
    # With the growth above, rows that begin off the plan are back on it after about ten: a policy
    # that continues a prefix must not take what is behind it for what is ahead.
    correlation: float = setting(0.8, "of neighbouring rows", ge=0.0, le=0.999)
    n_candidates: int = setting(1, "chunks of one call", ge=1, le=16)
    spare_rows: int = setting(
        4, "rows of the horizon that a trained prefix leaves free", unit="rows", ge=1, le=64
    )
    has_correction: bool = setting(False, "brings a correction head")
    head_gain: float = setting(0.7, "share of the error that the head corrects", ge=0.0, le=1.0)
    head_sigma_m: float = setting(0.001, "scatter of the head", unit="m", ge=0.0, le=0.1)
    head_reach_m: float = setting(0.03, "largest correction", unit="m", ge=0.0, le=1.0)

    def __post_init__(self) -> None:
        check_fields(self)


class SurrogatePolicy:
    """Infers rows from what was seen; the same call of the same episode draws the same noise.

    ``start_ns``: when the episode began.
    """

    def __init__(
        self,
        scenario: Scenario,
        expert: ExpertConfig,
        config: PolicyConfig,
        seed: int,
        start_ns: int,
        *,
        has_split_latent: bool = False,
    ) -> None:
        self.expert = Expert(scenario, expert, seed)
        self._start_ns = start_ns
        self._sight: Sight | None = None
        self.capabilities = PolicyCapabilities(
            horizon=expert.horizon,
            dt_ns=expert.dt_ns,
            is_guided=True,
            has_vjp=True,
            trained_prefix_max=max(expert.horizon - config.spare_rows, 0),
            has_split_latent=has_split_latent,
            has_age_input=has_split_latent,
            n_candidates=config.n_candidates,
            has_correction=config.has_correction,
            takes_projected_state=True,
        )
        last_m = config.row_sigma_m + config.row_growth_m * (expert.horizon - 1)
        self._flow = FlowMixturePolicy(
            self._modes,
            self.capabilities,
            spread=Spread(
                first=config.row_sigma_m / _SPACE.position_m,
                last=last_m / _SPACE.position_m,
                correlation=config.correlation,
            ),
            space=_SPACE,
            seed=seed,
        )

    def infer(self, request: InferenceRequest, sight: Sight) -> tuple[ActionChunk, ...]:
        """Return the rows asked for, planned on ``sight``."""
        self._sight = sight
        return self._flow.infer(request)

    def _modes(self, request: InferenceRequest) -> Modes:
        assert self._sight is not None
        state = request.observation.state
        start_s = 1e-9 * (request.target0_ns - self._start_ns)
        plans, odds = self.expert.plan(self._sight, state, request.target0_ns, start_s)
        means = np.stack([_SPACE.to_model(rows, state.T_base_ee) for rows in plans])
        return Modes(np.maximum(odds, _MIN_ODDS), means)


class SurrogateHead:
    """A correction head that sees the present: moves rows towards what the expert would do now."""

    def __init__(self, expert: Expert, config: PolicyConfig, seed: int, start_ns: int) -> None:
        self._expert, self._config = expert, config
        self._random = np.random.default_rng([seed, 0x68656164])
        self._start_ns = start_ns
        self._known: tuple[Observation, list[ActionChunk]] | None = None

    def correct(
        self, observation: Observation, row: ActionChunk, index: float, age_ns: int
    ) -> ActionChunk:
        """Return the corrected row."""
        c = self._config
        now_ns = max(observation.state.tick_ns, self._start_ns)
        if self._known is None or self._known[0] is not observation:
            now_s = 1e-9 * (now_ns - self._start_ns)
            sight = self._expert.look(now_s, observation.instruction_id)
            plans = self._expert.plan(sight, observation.state, now_ns, now_s)[0]
            self._known = (observation, plans)
        i = round((row.target0_ns - now_ns) / row.dt_ns)
        wishes = [p for p in self._known[1] if 0 <= i < p.horizon]
        if not wishes:
            return row
        errors = [p.positions[i] - row.positions[0] for p in wishes]
        nearest = min(range(len(errors)), key=lambda k: float(np.linalg.norm(errors[k])))
        error = errors[nearest]
        length_m = float(np.linalg.norm(error))
        if length_m > c.head_reach_m:
            error = error * (c.head_reach_m / length_m)
        move = c.head_gain * error + c.head_sigma_m * self._random.standard_normal(3)
        return replace(row, positions=row.positions + move)
