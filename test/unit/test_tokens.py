# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from onnx_samples import VOCABULARY, WORDS

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.policies.tokens import WordTokenizer, make_tokenizer


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer(VOCABULARY, 7)


@pytest.mark.parametrize("text", ["put the red cube", "  PUT the Red,cube! "])
def test_words_become_their_numbers_and_the_rest_is_padding(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int64
    expected = [VOCABULARY[word] for word in ("put", "the", "red", "cube")]
    assert tokens.tolist() == [*expected, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("put the blue cube", f"the word 'blue' is not understood; known words: {WORDS[0]}, cube"),
        ("put the bowll", r"'bowll' is not understood \(did you mean 'bowl'\?\)"),
        ("put <pad>", "the word 'pad' is not understood"),
        ("put " * 8, "has 8 words, at most 7 are read"),
        ("", "the instruction is empty"),
        (" .,; ", "the instruction is empty"),
        ("a" * 501, "has 501 characters"),
        (None, "must be text, got NoneType"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is(tokenizer, text, message):
    with pytest.raises(InstructionError, match=message):
        tokenizer.encode(text)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"<unk>": 0}, "lacks <pad>"),
        ({"<pad>": 0}, "lacks <unk>"),
        ({"<pad>": 0, "<unk>": 1, "a": 3}, "each of 0 to 2 once"),
        ({"<pad>": 0, "<unk>": 1, "a": 1}, "each of 0 to 2 once"),
        ({"<pad>": 0, "<unk>": True}, "numbers, got '<unk>': True"),
        ({"<pad>": 0, "<unk>": 1, "Red": 2}, "lower case"),
        (["red"], "maps words to numbers, got list"),
    ],
)
def test_vocabulary_of_another_form_is_refused(vocabulary, message):
    with pytest.raises(ConfigError, match=message):
        make_tokenizer("words", json.dumps(vocabulary).encode(), 7, "words.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_file_that_is_no_json_is_refused(data):
    with pytest.raises(ConfigError, match=r"words\.json"):
        make_tokenizer("words", data, 7, "words.json")


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="needs tokenizers")
def test_tokenizer_of_the_library_is_read():
    import tokenizers

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(VOCABULARY, unk_token="<unk>"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made = make_tokenizer("tokenizers", library.to_str().encode(), 4, "tokenizer.json")
    assert made.encode("put the cube").tolist() == [
        VOCABULARY[w] for w in ("put", "the", "cube")
    ] + [0]
    with pytest.raises(InstructionError, match="has 5 tokens, at most 4"):
        made.encode("put the cube in bowl")
    with pytest.raises(ConfigError, match="is no tokenizer"):
        make_tokenizer("tokenizers", b"{}", 4, "tokenizer.json")


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is not None, reason="it is installed")
def test_missing_library_is_named():
    with pytest.raises(ConfigError, match=r"tokenizer\.json needs the package tokenizers"):
        make_tokenizer("tokenizers", b"{}", 4, "tokenizer.json")
