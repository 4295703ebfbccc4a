# SPDX-License-Identifier: Apache-2.0
"""Noise on what a demonstrating expert does, so that recoveries are demonstrated too.

What is executed is disturbed, what is recorded as right is not (DART, arXiv 1703.09327): a
learner that errs later finds itself where the expert has been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DisturbanceConfig:
    """How strong and how often. An episode draws one level that scales all of it."""

    calm_share: float = setting(0.2, "share of episodes without any", ge=0.0, le=1.0)
    goal_m: float = setting(0.006, "wandering of the goal", unit="m", ge=0.0, le=0.2)
    goal_rad: float = setting(0.12, "wandering of the goal's yaw", unit="rad", ge=0.0, le=1.0)
    wander_s: float = setting(0.4, "correlation time of the wandering", unit="s", ge=0.02, le=10.0)
    belief_m: float = setting(
        0.025, "error of where pick and place are believed", unit="m", ge=0.0, le=0.2
    )
    belief_hz: float = setting(0.25, "how often such a belief begins", unit="Hz", ge=0.0, le=5.0)
    kick_m: float = setting(0.09, "sudden change of the goal", unit="m", ge=0.0, le=0.3)
    kick_hz: float = setting(0.15, "how often", unit="Hz", ge=0.0, le=5.0)
    slip_hz: float = setting(
        0.12, "how often the gripper does the opposite for a moment", unit="Hz", ge=0.0, le=5.0
    )
    slowest: float = setting(0.6, "slowest motion, share of the full speed", ge=0.1, le=1.0)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Disturbed:
    """What is added at one step.

    Attributes:
        goal: (4,) to the goal: x, y, z [m], yaw [rad].
        pick_m, place_m: (2,) to where the objects are believed [m].
        flips_gripper: the gripper does the opposite.
    """

    goal: Array
    pick_m: Array
    place_m: Array
    flips_gripper: bool


class Disturbance:
    """Draws the disturbances of one episode, step by step.

    Args:
        seed: of the episode.
        config: how strong and how often.
        step_s: time from one call to the next [s].

    Attributes:
        speed_scale: share of the full speed at which this episode moves.
    """

    def __init__(self, seed: int, config: DisturbanceConfig, step_s: float) -> None:
        self._config = config
        self._step_s = step_s
        self._random = np.random.default_rng([seed, 21])
        is_calm = self._random.random() < config.calm_share
        self._level = 0.0 if is_calm else float(self._random.uniform(0.3, 1.0))
        self.speed_scale = 1.0 if is_calm else float(self._random.uniform(config.slowest, 1.0))
        self._wander = np.zeros(4)
        self._kick, self._kick_left_s = np.zeros(3), 0.0
        self._belief, self._belief_left_s = np.zeros(4), 0.0
        self._slip_left_s = 0.0

    def step(self) -> Disturbed:
        """Return what is added now."""
        c, random = self._config, self._random
        self._move_wander()
        self._kick_left_s -= self._step_s
        self._belief_left_s -= self._step_s
        self._slip_left_s -= self._step_s
        if self._begins(c.kick_hz, self._kick_left_s):
            direction = random.normal(size=3) * (1.0, 1.0, 0.5)
            self._kick = c.kick_m * self._level * direction / np.linalg.norm(direction)
            self._kick_left_s = float(random.uniform(0.15, 0.4))
        if self._begins(c.belief_hz, self._belief_left_s):
            self._belief = c.belief_m * self._level * random.normal(size=4)
            self._belief_left_s = float(random.uniform(0.4, 1.5))
        if self._begins(c.slip_hz, self._slip_left_s):
            self._slip_left_s = float(random.uniform(0.1, 0.8))
        goal = self._wander.copy()
        if self._kick_left_s > 0.0:
            goal[:3] += self._kick
        belief = self._belief if self._belief_left_s > 0.0 else np.zeros(4)
        return Disturbed(goal, belief[:2], belief[2:], self._slip_left_s > 0.0)

    def _move_wander(self) -> None:
        """Ornstein-Uhlenbeck process with the standard deviations of the settings."""
        c = self._config
        keep = math.exp(-self._step_s / c.wander_s)
        size = self._level * np.array([c.goal_m, c.goal_m, 0.7 * c.goal_m, c.goal_rad])
        noise = size * self._random.normal(size=4)
        self._wander = keep * self._wander + math.sqrt(1.0 - keep * keep) * noise

    def _begins(self, rate_hz: float, left_s: float) -> bool:
        drawn = self._random.random()
        return left_s <= 0.0 and self._level > 0.0 and drawn < rate_hz * self._step_s
