# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.learning.vocabulary import MAX_TOKENS, Vocabulary, default_vocabulary


def test_words_are_numbered_padded_and_read_back():
    vocabulary = Vocabulary.from_json(default_vocabulary().to_json())
    assert vocabulary == default_vocabulary()
    tokens = vocabulary.encode("Put the RED cube in the cyan bowl!")
    assert tokens.shape == (1, MAX_TOKENS)
    words = [vocabulary.words[i] for i in tokens[0]]
    assert words == ["put", "the", "red", "cube", "in", "the", "cyan", "bowl"] + ["<pad>"] * 8


@pytest.mark.parametrize("text", ["", "put the pink cube in the cyan bowl", "the " * 17])
def test_sentence_without_known_words_or_too_long_is_refused(text):
    with pytest.raises(InstructionError):
        default_vocabulary().encode(text)


@pytest.mark.parametrize(
    "text", ["[]", "3", "{", '{"a": 0, "b": 1}', '{"<pad>": 0, "<unk>": 2}', '{"<pad>": "x"}']
)
def test_file_that_is_no_vocabulary_is_refused(text):
    with pytest.raises(ConfigError):
        Vocabulary.from_json(text)
