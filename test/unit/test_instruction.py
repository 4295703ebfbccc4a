# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import InstructionError
from vla_ros.policies.instruction import ALL_GOALS, PickPlaceGoal, parse_instruction


@pytest.mark.parametrize("goal", ALL_GOALS)
def test_parse_inverts_text(goal: PickPlaceGoal) -> None:
    assert parse_instruction(goal.text) == goal


@pytest.mark.parametrize(
    "text",
    [
        "Put the red cube in the cyan bowl.",
        "  PLACE   the RED block INTO the CYAN bowl!  ",
        "please move the red cube inside the cyan bowl",
        "drop red cube into cyan bowl",
        "Pick up the red cube and place it in the turquoise bowl",
        "can you put the red block in the aqua dish?",
        "put-the-red-cube,in:the cyan bowl",
    ],
)
def test_parse_accepts_variants(text: str) -> None:
    assert parse_instruction(text) == PickPlaceGoal("red", "cyan")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        (" .,!? ", "empty"),
        ("put the orange cube in the cyan bowl", "no orange cube"),
        ("put the purple cube in the cyan bowl", "no purple cube"),
        ("put the red cube in the red bowl", "no red bowl"),
        ("put the rde cube in the cyan bowl", "'rde'"),
        ("put the red ball in the cyan bowl", "'ball'"),
        ("put the red cube and the blue cube in the cyan bowl", "more than one cube"),
        ("put the red cube in the cyan bowl and the purple bowl", "more than one bowl"),
        ("put the red cube in the", "no bowl"),
        ("put the red cube", "no bowl"),
        ("go to the cyan bowl", "'go'"),
        ("put it in the cyan bowl", "no cube"),
        ("put the cube in the cyan bowl", "which cube"),
        ("put the red cube in the bowl", "which bowl"),
        ("do not put the red cube in the cyan bowl", "'do'"),
        ("never put the red cube in the cyan bowl", "'never'"),
        ("put the cyan bowl in the red cube", "'in' the bowl"),
        ("the red cube in the cyan bowl", "what to do"),
        ("put the red cube near the cyan bowl", "'near'"),
        ("put the red cube the cyan bowl", "'in' the bowl"),
        ("put the red blue cube in the cyan bowl", "'red'"),
        ("put the red cube in the cyan bowl; rm -rf", "'rm'"),
        ("pick up the red cube in the cyan bowl", "put the cube down"),
        ("put the red cube in the cyan bowl and lift it up", "'lift'"),
        ("put the red", "'red'"),
        ("lege den roten Würfel in die Schale", "'lege'"),
        (None, "NoneType"),
        (b"put the red cube in the cyan bowl", "bytes"),
        (7, "int"),
    ],
)
def test_parse_refuses_and_names_what_is_wrong(text: object, named: str) -> None:
    with pytest.raises(InstructionError) as caught:
        parse_instruction(text)
    assert named in str(caught.value)


def test_parse_refusal_lists_the_colours() -> None:
    with pytest.raises(InstructionError, match="red, green, blue, yellow"):
        parse_instruction("put the orange cube in the cyan bowl")


@pytest.mark.parametrize("filler", ["a ", "x"])
def test_parse_long_text_reports_length_without_echo(filler: str) -> None:
    text = filler * 10_000
    with pytest.raises(InstructionError) as caught:
        parse_instruction(text)
    assert str(len(text)) in str(caught.value)
    assert len(str(caught.value)) < 200


def test_parse_long_word_is_cut_in_the_message() -> None:
    with pytest.raises(InstructionError) as caught:
        parse_instruction("put " + "z" * 400)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=80))
def test_parse_never_fails_otherwise(text: str) -> None:
    try:
        goal = parse_instruction(text)
    except InstructionError:
        return
    assert goal in ALL_GOALS
