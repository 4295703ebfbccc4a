# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.learning.vocabulary import MAX_TOKENS, Vocabulary, default_vocabulary
from vla_ros.policies.tokens import WordTokenizer


def test_words_are_numbered_padded_and_understood_by_the_runtime():
    vocabulary = default_vocabulary()
    tokens = vocabulary.encode("Put the RED cube in the cyan bowl!")
    assert tokens.shape == (1, MAX_TOKENS)
    words = [vocabulary.words[i] for i in tokens[0]]
    assert words == ["put", "the", "red", "cube", "in", "the", "cyan", "bowl"] + ["<pad>"] * 8
    runtime = WordTokenizer.from_json(vocabulary.to_json().encode(), MAX_TOKENS, "vocabulary.json")
    np.testing.assert_array_equal(runtime.encode("put the red cube in the cyan bowl"), tokens[0])


@pytest.mark.parametrize("text", ["", "put the pink cube in the cyan bowl", "the " * 17])
def test_sentence_without_known_words_or_too_long_is_refused(text):
    with pytest.raises(InstructionError):
        default_vocabulary().encode(text)


@pytest.mark.parametrize("words", [("put",), ("<unk>", "<pad>"), ("<pad>", "<unk>", "put", "put")])
def test_list_that_is_no_vocabulary_is_refused(words):
    with pytest.raises(ConfigError):
        Vocabulary(words)
