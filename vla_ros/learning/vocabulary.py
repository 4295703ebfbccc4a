# SPDX-License-Identifier: Apache-2.0
"""From words to token numbers: a plain list of words in a JSON file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.learning.phrases import all_words

PAD, UNKNOWN = "<pad>", "<unk>"
MAX_TOKENS = 16


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; 0 is padding, 1 any word that is not in it.

    Attributes:
        words: all entries in order, ``<pad>`` and ``<unk>`` first.
        length: tokens per sentence.
    """

    words: tuple[str, ...]
    length: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if self.words[:2] != (PAD, UNKNOWN):
            raise ConfigError(f"a vocabulary begins with {PAD} and {UNKNOWN}")
        if len(set(self.words)) != len(self.words):
            raise ConfigError("a word is in the vocabulary twice")
        if not 1 <= self.length <= 512:
            raise ConfigError(f"length must be 1..512, got {self.length}")

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the tokens (1, length) of a sentence.

        Raises:
            InstructionError: if the sentence has no word or too many.
        """
        words = re.findall(r"[^\W_]+", text.lower())
        if not 1 <= len(words) <= self.length:
            raise InstructionError(f"an instruction has 1..{self.length} words, got {len(words)}")
        numbers = {word: i for i, word in enumerate(self.words)}
        tokens = np.zeros((1, self.length), dtype=np.int64)
        tokens[0, : len(words)] = [numbers.get(word, 1) for word in words]
        return tokens

    def to_json(self) -> str:
        """Return the text of the file: word to number, and the length of a sentence."""
        return json.dumps(
            {"tokens": {word: i for i, word in enumerate(self.words)}, "length": self.length},
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> Vocabulary:
        """Read the text of ``to_json``.

        Raises:
            ConfigError: if it is not one.
        """
        try:
            values = json.loads(text)
            numbers: dict[str, int] = values["tokens"]
            if sorted(numbers.values()) != list(range(len(numbers))):
                raise ConfigError("token numbers must be 0, 1, 2, ...")
            return Vocabulary(tuple(sorted(numbers, key=numbers.__getitem__)), values["length"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ConfigError(f"not a vocabulary: {error}") from error

    @staticmethod
    def load(path: Path) -> Vocabulary:
        """Read a file; raises ``ConfigError`` if it is not a vocabulary."""
        try:
            return Vocabulary.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error}") from error


def default_vocabulary() -> Vocabulary:
    """Return the words of all phrases of the task."""
    return Vocabulary((PAD, UNKNOWN, *all_words()))
