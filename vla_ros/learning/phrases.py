# SPDX-License-Identifier: Apache-2.0
"""Ways to say a goal. All of them are understood by ``policies.instruction`` as well."""

from __future__ import annotations

import numpy as np

from vla_ros.policies.instruction import PickPlaceGoal

_VERBS = ("put", "place", "move", "drop", "set", "lay", "bring", "transfer")
_PICK_VERBS = ("pick up", "grab", "take", "grasp", "lift")
_CUBES = ("cube", "block")
_BOWLS = ("bowl", "dish")
_INTO = ("in", "into", "inside")
_SYNONYMS = {"purple": ("purple", "violet"), "cyan": ("cyan", "turquoise", "aqua")}


def say_goal(goal: PickPlaceGoal, random: np.random.Generator) -> str:
    """Return a sentence that asks for the goal; half of the time the plain one."""
    if random.random() < 0.5:
        return goal.text
    cube = f"the {goal.cube_colour} {_one(_CUBES, random)}"
    colour = _one(_SYNONYMS.get(goal.bowl_colour, (goal.bowl_colour,)), random)
    bowl = f"{_one(_INTO, random)} the {colour} {_one(_BOWLS, random)}"
    please = "please " if random.random() < 0.2 else ""
    if random.random() < 0.5:
        return f"{please}{_one(_PICK_VERBS, random)} {cube} and {_one(_VERBS, random)} it {bowl}"
    return f"{please}{_one(_VERBS, random)} {cube} {bowl}"


def all_words() -> list[str]:
    """Return every word that ``say_goal`` can use, sorted, colours included."""
    from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS

    groups = (_VERBS, _PICK_VERBS, _CUBES, _BOWLS, _INTO, *_SYNONYMS.values())
    phrases = [phrase for group in groups for phrase in group]
    phrases += [*CUBE_COLOURS, *BOWL_COLOURS, "the", "and", "it", "please"]
    return sorted({word for phrase in phrases for word in phrase.split()})


def _one(choices: tuple[str, ...], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]
