# SPDX-License-Identifier: Apache-2.0
"""What is trained on and what is evaluated never meet."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.learning.evaluation import CELLS
from vla_ros.learning.phrases import say_goal
from vla_ros.learning.split import (
    FIRST_TRAINING_SEED,
    HELD_OUT_GOALS,
    SEEN_GOALS,
    check_evaluation_seed,
    evaluation_goal,
    training_goal,
    training_seed,
)
from vla_ros.learning.vocabulary import default_vocabulary
from vla_ros.policies.instruction import ALL_GOALS, parse_instruction


def test_no_seed_is_for_training_and_for_evaluation():
    for number in (0, 1, 1999):
        with pytest.raises(ConfigError, match="belong to training"):
            check_evaluation_seed(training_seed(number))
    check_evaluation_seed(0)
    check_evaluation_seed(FIRST_TRAINING_SEED - 1)


@pytest.mark.parametrize("number", [-1, 10**9])
def test_demonstrations_outside_the_training_seeds_are_refused(number):
    with pytest.raises(ConfigError):
        training_seed(number)


def test_held_out_goals_share_no_colour_and_leave_each_word_to_train_on():
    assert len(HELD_OUT_GOALS) >= 2
    assert len({goal.cube_colour for goal in HELD_OUT_GOALS}) == len(HELD_OUT_GOALS)
    assert len({goal.bowl_colour for goal in HELD_OUT_GOALS}) == len(HELD_OUT_GOALS)
    assert set(SEEN_GOALS) | set(HELD_OUT_GOALS) == set(ALL_GOALS)
    assert not set(SEEN_GOALS) & set(HELD_OUT_GOALS)
    assert {g.cube_colour for g in SEEN_GOALS} == {g.cube_colour for g in ALL_GOALS}
    assert {g.bowl_colour for g in SEEN_GOALS} == {g.bowl_colour for g in ALL_GOALS}


def test_held_out_goals_are_never_demonstrated():
    goals = [training_goal(training_seed(number)) for number in range(2000)]
    assert set(goals) == set(SEEN_GOALS)


def test_goals_of_evaluation_are_of_the_kind_asked_for():
    seeds = range(200)
    assert {evaluation_goal(s, held_out=False) for s in seeds} == set(SEEN_GOALS)
    assert {evaluation_goal(s, held_out=True) for s in seeds} == set(HELD_OUT_GOALS)


def test_cells_judge_the_same_goal_for_the_same_seed_and_refuse_training_seeds():
    seen = [cell for cell in CELLS if not cell.held_out]
    for seed in range(50):
        assert len({cell.judged_goal(seed) for cell in seen}) == 1
    with pytest.raises(ConfigError):
        CELLS[0].judged_goal(training_seed(0))


def test_scrambled_instructions_are_right_one_time_in_eight():
    (cell,) = (c for c in CELLS if c.is_scrambled)
    right = [cell.told_goal(seed) == cell.judged_goal(seed) for seed in range(4000)]
    assert abs(np.mean(right) - 1 / len(ALL_GOALS)) < 0.03


def test_every_phrase_means_its_goal_and_has_known_words():
    random, vocabulary = np.random.default_rng(0), default_vocabulary()
    for _ in range(300):
        for goal in ALL_GOALS:
            sentence = say_goal(goal, random)
            assert parse_instruction(sentence) == goal, sentence
            assert vocabulary.encode(sentence).max() >= 2
