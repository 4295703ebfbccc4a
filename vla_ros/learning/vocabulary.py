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
        words = re.findall(r"[^\W_]+", text.lower())
        if not 1 <= len(words) <= MAX_TOKENS:
            raise InstructionError(f"an instruction has 1..{MAX_TOKENS} words, got {len(words)}")
        numbers = {word: i for i, word in enumerate(self.words)}
        if unknown := [word for word in words if word not in numbers]:
            known = ", ".join(self.words[2:])
            raise InstructionError(f"the word {unknown[0][:32]!r} is unknown; known: {known}")
        tokens = np.zeros((1, MAX_TOKENS), dtype=np.int64)
        tokens[0, : len(words)] = [numbers[word] for word in words]
        return tokens

    def to_json(self) -> str:
        """Return the text of the file: words to numbers."""
        return json.dumps({word: i for i, word in enumerate(self.words)}, indent=1)

    @staticmethod
    def from_json(text: str) -> Vocabulary:
        """Read the text of ``to_json``.

        Raises:
            ConfigError: if it is not one.
        """
        try:
            numbers: dict[str, int] = json.loads(text)
            if sorted(numbers.values()) != list(range(len(numbers))):
                raise ConfigError("token numbers must be 0, 1, 2, ...")
            return Vocabulary(tuple(sorted(numbers, key=numbers.__getitem__)))
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
