# SPDX-License-Identifier: Apache-2.0
"""From words to token numbers: a plain list of words in a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError
from vla_ros.learning.phrases import all_words
from vla_ros.policies.tokens import PAD, UNKNOWN, WordTokenizer

MAX_TOKENS = 16


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; 0 is padding, 1 any word that is not in it.

    Attributes:
        words: all entries in order, ``<pad>`` and ``<unk>`` first.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:2] != (PAD, UNKNOWN):
            raise ConfigError(f"a vocabulary begins with {PAD} and {UNKNOWN}")
        if len(set(self.words)) != len(self.words):
            raise ConfigError("a word is in the vocabulary twice")

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the tokens (1, 16) of a sentence.

        Raises:
            InstructionError: if the sentence has no word or too many, or one that is not known.
        """
        return self._tokenizer.encode(text)[None]

    @cached_property
    def _tokenizer(self) -> WordTokenizer:
        return WordTokenizer({word: i for i, word in enumerate(self.words)}, MAX_TOKENS)

    def to_json(self) -> str:
        """Return the text of the file: words to numbers, as ``policies.tokens`` reads them."""
        return json.dumps({word: i for i, word in enumerate(self.words)}, indent=1)


def default_vocabulary() -> Vocabulary:
    """Return the words of all phrases of the task."""
    return Vocabulary((PAD, UNKNOWN, *all_words()))
