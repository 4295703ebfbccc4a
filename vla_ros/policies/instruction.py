# SPDX-License-Identifier: Apache-2.0
"""From a sentence to a goal. It refuses rather than guesses, and says what can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vla_ros.errors import InstructionError
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS

MAX_INSTRUCTION_CHARS = 500

_PUT_VERBS = {"put", "place", "move", "drop", "set", "lay", "bring", "transfer"}
_PICK_VERBS = {"pick", "grab", "take", "grasp", "lift"}
_CUBE_WORDS = {"cube", "block"}
_BOWL_WORDS = {"bowl", "dish"}
_INTO_WORDS = {"in", "into", "inside", "within"}
_FILLERS = {
    "the",
    "a",
    "please",
    "now",
    "to",
    "of",
    "and",
    "it",
    "up",
    "then",
    "robot",
    "can",
    "you",
}
_COLOUR_SYNONYMS = {"violet": "purple", "turquoise": "cyan", "aqua": "cyan"}
_OTHER_COLOURS = {
    *("orange", "pink", "black", "white", "grey", "gray", "brown", "magenta", "teal"),
    *("lime", "navy", "gold", "silver", "beige"),
}
_OBJECT_WORDS = _CUBE_WORDS | _BOWL_WORDS
_KNOWN = _PUT_VERBS | _PICK_VERBS | _OBJECT_WORDS | _INTO_WORDS | _FILLERS
_ALL_COLOURS = {*CUBE_COLOURS, *BOWL_COLOURS, *_COLOUR_SYNONYMS, *_OTHER_COLOURS}
_ALLOWED = f"say 'put the <{'|'.join(CUBE_COLOURS)}> cube in the <{'|'.join(BOWL_COLOURS)}> bowl'"


@dataclass(frozen=True)
class PickPlaceGoal:
    """Which cube belongs into which bowl."""

    cube_colour: str
    bowl_colour: str

    @property
    def text(self) -> str:
        """The plain sentence of this goal; ``parse_instruction`` of it returns the goal."""
        return f"put the {self.cube_colour} cube in the {self.bowl_colour} bowl"


ALL_GOALS = tuple(PickPlaceGoal(cube, bowl) for cube in CUBE_COLOURS for bowl in BOWL_COLOURS)


def parse_instruction(text: object) -> PickPlaceGoal:
    """Understand "put the <colour> cube in the <colour> bowl" and its usual variants.

    Every word must be known, so that a negation, a second task or a misspelt colour is refused.

    Raises:
        InstructionError: naming the word or the part that is missing, and what is allowed.
    """
    words = _split(text)
    cubes, bowls = _find_objects(words)
    if not cubes:
        raise InstructionError(f"the instruction names no cube; {_ALLOWED}")
    if len(cubes) > 1:
        raise InstructionError(
            f"the instruction names more than one cube ({', '.join(cubes)}); {_ALLOWED}"
        )
    if not bowls:
        raise InstructionError(f"the instruction names no bowl; {_ALLOWED}")
    if len(bowls) > 1:
        raise InstructionError(
            f"the instruction names more than one bowl ({', '.join(bowls)}); {_ALLOWED}"
        )
    _check_order(words)
    return PickPlaceGoal(
        _check_colour(cubes[0], "cube", CUBE_COLOURS), _check_colour(bowls[0], "bowl", BOWL_COLOURS)
    )


def _split(text: object) -> list[str]:
    if not isinstance(text, str):
        raise InstructionError(
            f"an instruction must be text, got {type(text).__name__}; {_ALLOWED}"
        )
    if len(text) > MAX_INSTRUCTION_CHARS:
        raise InstructionError(
            f"the instruction has {len(text)} characters, at most {MAX_INSTRUCTION_CHARS} are read"
        )
    words = re.findall(r"[^\W_]+", text.lower())
    if not words:
        raise InstructionError(f"the instruction is empty; {_ALLOWED}")
    return words


def _find_objects(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the word before each "cube" and each "bowl"; refuse words that are not known."""
    cubes: list[str] = []
    bowls: list[str] = []
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word in _CUBE_WORDS:
            cubes.append(before)
        elif word in _BOWL_WORDS:
            bowls.append(before)
        elif word not in _KNOWN and not (word in _ALL_COLOURS and after in _OBJECT_WORDS):
            raise InstructionError(_why_not_understood(word, after))
    return cubes, bowls


def _why_not_understood(word: str, after: str) -> str:
    """Return what to tell about a word that is neither known nor a colour before an object."""
    if after in _OBJECT_WORDS:
        kind, allowed = ("cube", CUBE_COLOURS) if after in _CUBE_WORDS else ("bowl", BOWL_COLOURS)
        return f"{_quote(word)} is no colour of a {kind} here: {', '.join(allowed)}"
    if word not in _ALL_COLOURS:
        return f"the word {_quote(word)} is not understood; {_ALLOWED}"
    if after and after not in _KNOWN | _ALL_COLOURS:
        return f"there is no {_quote(after)} here, only cubes and bowls; {_ALLOWED}"
    return f"{_quote(word)} must be followed by 'cube' or 'bowl'; {_ALLOWED}"


def _check_order(words: list[str]) -> None:
    """Demand a verb, the cube, "in", the bowl, and nothing more to do after it."""
    cube = next(i for i, word in enumerate(words) if word in _CUBE_WORDS)
    bowl = next(i for i, word in enumerate(words) if word in _BOWL_WORDS)
    verbs = _PUT_VERBS | _PICK_VERBS
    if not verbs.intersection(words[:cube]):
        raise InstructionError(f"the instruction does not say what to do; {_ALLOWED}")
    if not _INTO_WORDS.intersection(words[cube:bowl]):
        raise InstructionError(f"the cube must be put 'in' the bowl; {_ALLOWED}")
    if not _PUT_VERBS.intersection(words[:bowl]):
        # "pick the cube in the bowl" may mean a cube that is already there.
        raise InstructionError(f"the instruction does not say to put the cube down; {_ALLOWED}")
    more = [word for word in words[bowl:] if word in verbs]
    if more:
        raise InstructionError(f"one task at a time: {_quote(more[0])} comes after it; {_ALLOWED}")


def _check_colour(word: str, kind: str, allowed: tuple[str, ...]) -> str:
    colour = _COLOUR_SYNONYMS.get(word, word)
    if colour in allowed:
        return colour
    if colour in _ALL_COLOURS:
        raise InstructionError(f"there is no {colour} {kind}; {kind}s are {', '.join(allowed)}")
    raise InstructionError(f"the instruction does not say which {kind}: {', '.join(allowed)}")


def _quote(word: str) -> str:
    return repr(word if len(word) <= 32 else word[:32] + "...")
