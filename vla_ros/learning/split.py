# SPDX-License-Identifier: Apache-2.0
"""Which layouts and instructions belong to training and which to evaluation, by construction.

A seed decides the layout of the table. Those below ``FIRST_TRAINING_SEED`` are for evaluation,
those from it on for training, so no evaluated layout was ever trained on. Two of the eight goals
are held out: their words occur in training, but never together.
"""

from __future__ import annotations

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.policies.instruction import ALL_GOALS, PickPlaceGoal

FIRST_TRAINING_SEED = 1_000_000_000
LAST_TRAINING_SEED = 2_000_000_000 - 1
_GOAL_STREAM = 11


def _is_held_out(goal: PickPlaceGoal) -> bool:
    """Rule: of the cubes with even number 2k, the goal with bowl (k + 1) mod n is held out.

    Each held-out goal has a cube and a bowl of its own, so every word is trained with another one.
    """
    cube = CUBE_COLOURS.index(goal.cube_colour)
    bowl = BOWL_COLOURS.index(goal.bowl_colour)
    return cube % 2 == 0 and bowl == (cube // 2 + 1) % len(BOWL_COLOURS)


HELD_OUT_GOALS = tuple(goal for goal in ALL_GOALS if _is_held_out(goal))
SEEN_GOALS = tuple(goal for goal in ALL_GOALS if not _is_held_out(goal))


def training_seed(number: int) -> int:
    """Return the seed of demonstration ``number``.

    Raises:
        ConfigError: if there is no such seed.
    """
    seed = FIRST_TRAINING_SEED + number
    if not FIRST_TRAINING_SEED <= seed <= LAST_TRAINING_SEED:
        raise ConfigError(f"demonstrations are numbered from 0, got {number}")
    return seed


def check_evaluation_seed(seed: int) -> None:
    """Raise ``ConfigError`` if the layout of this seed may have been trained on."""
    if not 0 <= seed < FIRST_TRAINING_SEED:
        raise ConfigError(
            f"seeds for evaluation are 0..{FIRST_TRAINING_SEED - 1}, got {seed}; "
            "those above belong to training"
        )


def training_goal(seed: int) -> PickPlaceGoal:
    """Return the goal demonstrated with this seed; never one that is held out."""
    random = np.random.default_rng([seed, _GOAL_STREAM])
    return SEEN_GOALS[int(random.integers(len(SEEN_GOALS)))]


def evaluation_goal(seed: int, *, held_out: bool) -> PickPlaceGoal:
    """Return the goal evaluated with this seed, of the seen or of the held-out ones."""
    goals = HELD_OUT_GOALS if held_out else SEEN_GOALS
    random = np.random.default_rng([seed, _GOAL_STREAM, int(held_out)])
    return goals[int(random.integers(len(goals)))]
