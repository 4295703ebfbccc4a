# SPDX-License-Identifier: Apache-2.0
"""Reads a YAML text from outside, key by key: what nobody asked for is refused, and named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import yaml

from vla_ros.errors import ConfigError

MAX_TEXT_BYTES = 256 * 1024
_MAX_NODES = 20_000
_MAX_DEPTH = 16

Settings = TypeVar("Settings")


def read_yaml(text: str, origin: str) -> Section:
    """Return the mapping that a YAML text is.

    Aliases are refused (a few lines of them stand for gigabytes), and so are keys given twice, of
    which YAML would silently take the last one.

    Raises:
        ConfigError: if it is not YAML, not a mapping, too large or too deep; names ``origin``.
    """
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ConfigError(f"{origin} has more than {MAX_TEXT_BYTES} bytes")
    try:
        _check_events(text, origin)
        _check_keys(yaml.compose(text, Loader=yaml.SafeLoader), origin)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    return Section(data, origin)


def _check_events(text: str, origin: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{origin} has an alias (*{event.anchor}): write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or count > _MAX_NODES:
            raise ConfigError(f"{origin} must have at most {_MAX_NODES} values, {_MAX_DEPTH} deep")


def _check_keys(node: yaml.Node | None, origin: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise ConfigError(f"{origin} line {key.start_mark.line + 1}: {name} is given twice")
            seen.add(name)
            _check_keys(value, origin)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, origin)


class Section:
    """One mapping of a file. Values are taken by key; ``close`` refuses the keys left over.

    Every method raises ``ConfigError`` that names the place, the value and what is allowed.

    Args:
        data: what was read.
        where: the place, for messages, as in ``manifest.yaml: graphs.slow``.
    """

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {_short(data)}")
        self._data: dict[str, object] = {}
        for key, value in data.items():
            if not isinstance(key, str):
                raise ConfigError(f"{where}: keys must be text, got {_short(key)}")
            self._data[key] = value
        self._known: list[str] = []
        self.where = where

    def path(self, key: str) -> str:
        """Return how messages call a value of this section."""
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    @property
    def names(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self._data)

    def take(self, key: str, default: object = MISSING) -> Any:
        """Return a value as it was read."""
        self._known.append(key)
        if key in self._data:
            return self._data[key]
        if default is MISSING:
            raise ConfigError(f"{self.where}: {key} is missing")
        return default

    def text(self, key: str, default: object = MISSING, choices: Sequence[str] = ()) -> str:
        """Return a text, one of ``choices`` if there are any."""
        value = self.take(key, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self.path(key)} must be text, got {_short(value)}")
        if choices and value not in choices:
            raise ConfigError(
                f"{self.path(key)} must be one of {', '.join(choices)}, got {_short(value)}"
            )
        return value

    def texts(self, key: str, default: object = MISSING) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.take(key, default)
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{self.path(key)} must be a list of names, got {_short(value)}")
        return tuple(value)

    def numbers(self, key: str, default: object = MISSING) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        value = self.take(key, default)
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(_is_number(item) for item in value):
            raise ConfigError(f"{self.path(key)} must be a list of numbers, got {_short(value)}")
        return tuple(float(item) for item in value)

    def number(self, key: str, low: float, high: float, default: object = MISSING) -> float:
        """Return a finite number from ``low`` to ``high``."""
        value = self.take(key, default)
        if not _is_number(value) or not low <= value <= high:
            raise ConfigError(
                f"{self.path(key)} must be a number from {low:g} to {high:g}, got {_short(value)}"
            )
        return float(value)

    def section(self, key: str, default: object = MISSING) -> Section:
        """Return the mapping under a key."""
        return Section(self.take(key, default), self.path(key))

    def settings(self, kind: type[Settings], **given: Any) -> Settings:
        """Return a dataclass whose ``setting`` fields are keys of this section.

        ``given``: fields that the caller read itself.
        """
        values: dict[str, Any] = {}
        for f in fields(kind):  # type: ignore[arg-type]
            if "description" not in f.metadata:
                continue
            self._known.append(f.name)
            if f.name in self._data:
                value = self._data[f.name]
                is_sequence = isinstance(f.default, tuple) and isinstance(value, list)
                values[f.name] = tuple(value) if is_sequence else value  # type: ignore[arg-type]
        try:
            return kind(**values, **given)
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from error

    def close(self) -> None:
        """Refuse keys that nobody asked for."""
        unknown = [key for key in self._data if key not in self._known]
        if unknown:
            raise ConfigError(
                f"{self.where}: unknown key {_short(unknown[0])}; "
                f"known: {', '.join(dict.fromkeys(self._known))}"
            )


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
