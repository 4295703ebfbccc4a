# SPDX-License-Identifier: Apache-2.0
"""From an instruction to the tokens of a network."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.policies.instruction import MAX_INSTRUCTION_CHARS

PAD, UNKNOWN = "<pad>", "<unk>"
MAX_VOCABULARY_BYTES = 64 << 20
_MAX_SHOWN = 60

Tokens = NDArray[np.int64]


class Tokenizer(Protocol):
    """Turns instructions into a fixed number of tokens."""

    def encode(self, instruction: str) -> Tokens:
        """Return the tokens (L,), padded at the end.

        Raises:
            InstructionError: if it cannot be understood; the message says what can.
        """


def split_words(instruction: object) -> list[str]:
    """Return the words of an instruction in lower case; whatever is no letter or digit separates.

    Raises:
        InstructionError: if it is no text, empty or too long.
    """
    if not isinstance(instruction, str):
        raise InstructionError(f"an instruction must be text, got {type(instruction).__name__}")
    if len(instruction) > MAX_INSTRUCTION_CHARS:
        raise InstructionError(
            f"the instruction has {len(instruction)} characters, "
            f"at most {MAX_INSTRUCTION_CHARS} are read"
        )
    words = re.findall(r"[^\W_]+", instruction.lower())
    if not words:
        raise InstructionError("the instruction is empty")
    return words


class WordTokenizer:
    """One token per word, by a plain vocabulary. Unknown words are refused, never guessed.

    Args:
        vocabulary: number of every word, with ``<pad>`` and ``<unk>``; numbers are 0 to n - 1.
        length: tokens L; shorter instructions are padded, longer ones refused.

    Raises:
        ConfigError: if the vocabulary is not of this form.
    """

    def __init__(self, vocabulary: Mapping[str, int], length: int) -> None:
        _check_vocabulary(vocabulary)
        self._vocabulary = dict(vocabulary)
        self._length = length

    @classmethod
    def from_json(cls, data: bytes, length: int, origin: str) -> WordTokenizer:
        """Return the tokenizer of a JSON file: one object, words to numbers.

        Raises:
            ConfigError: if it is not that; names ``origin``.
        """
        try:
            return cls(json.loads(data), length)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{origin}: {error}") from error

    @property
    def words(self) -> list[str]:
        """The words that are understood."""
        return sorted(word for word in self._vocabulary if word not in (PAD, UNKNOWN))

    def encode(self, instruction: str) -> Tokens:
        """Return the tokens (L,).

        Raises:
            InstructionError: naming the word that is not known, and those that are.
        """
        words = split_words(instruction)
        for word in words:
            if word not in self._vocabulary:
                raise InstructionError(self._refusal(word))
        if len(words) > self._length:
            raise InstructionError(
                f"the instruction has {len(words)} words, at most {self._length} are read"
            )
        tokens = np.full(self._length, self._vocabulary[PAD], dtype=np.int64)
        tokens[: len(words)] = [self._vocabulary[word] for word in words]
        return tokens

    def _refusal(self, word: str) -> str:
        near = difflib.get_close_matches(word, self.words, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        shown = self.words[:_MAX_SHOWN]
        more = "" if len(self.words) <= _MAX_SHOWN else f" and {len(self.words) - _MAX_SHOWN} more"
        return (
            f"the word {word[:32]!r} is not understood{hint}; known words: {', '.join(shown)}{more}"
        )


def _check_vocabulary(vocabulary: object) -> None:
    if not isinstance(vocabulary, Mapping):
        raise ConfigError(f"a vocabulary maps words to numbers, got {type(vocabulary).__name__}")
    for word in (PAD, UNKNOWN):
        if word not in vocabulary:
            raise ConfigError(f"the vocabulary lacks {word}")
    for word, number in vocabulary.items():
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if not is_number or word != word.lower():
            raise ConfigError(
                f"a vocabulary has words in lower case and numbers, got {word!r}: {number!r}"
            )
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ConfigError(f"the vocabulary must use each of 0 to {len(vocabulary) - 1} once")


class LibraryTokenizer:
    """A ``tokenizer.json`` of the library tokenizers, as most language models bring it.

    Args:
        data: content of the file.
        length: tokens L; shorter instructions are padded, longer ones refused.
        origin: of the file, for messages.

    Raises:
        ConfigError: if the package is missing or the file is none of its own.
    """

    def __init__(self, data: bytes, length: int, origin: str) -> None:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError as error:
            raise ConfigError(f"{origin} needs the package tokenizers: {error}") from error
        try:
            self._library: Any = Library.from_str(data.decode())
        except Exception as error:  # the library raises Exception itself
            raise ConfigError(f"{origin} is no tokenizer: {error}") from error
        padding = self._library.padding or {}
        self._pad = int(padding.get("pad_id", 0))
        self._library.no_padding()
        self._library.no_truncation()
        self._length = length

    def encode(self, instruction: str) -> Tokens:
        """Return the tokens (L,).

        Raises:
            InstructionError: if the instruction is empty or too long.
        """
        split_words(instruction)
        numbers = self._library.encode(instruction).ids
        if len(numbers) > self._length:
            raise InstructionError(
                f"the instruction has {len(numbers)} tokens, at most {self._length} are read"
            )
        tokens = np.full(self._length, self._pad, dtype=np.int64)
        tokens[: len(numbers)] = numbers
        return tokens


def make_tokenizer(kind: str, data: bytes, length: int, origin: str) -> Tokenizer:
    """Return the tokenizer of a file.

    Args:
        kind: ``words`` or ``tokenizers``, as the manifest says.
        data: content of the file.
        length: tokens L.
        origin: of the file, for messages.

    Raises:
        ConfigError: if the file is not of that kind.
    """
    if kind == "tokenizers":
        return LibraryTokenizer(data, length, origin)
    return WordTokenizer.from_json(data, length, origin)
