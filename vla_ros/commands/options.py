# SPDX-License-Identifier: Apache-2.0
"""Command-line options from configuration dataclasses: their names, texts and ranges."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any, TypeVar

Config = TypeVar("Config")


def add_options(
    parser: argparse._ArgumentGroup, config_type: type[Any], hidden: tuple[str, ...] = ()
) -> None:
    """Add one option per setting of ``config_type``, except the ``hidden`` ones."""
    for f in fields(config_type):
        if "description" not in f.metadata or f.name in hidden:
            continue
        _add_option(parser, f)


def read_options(namespace: argparse.Namespace, config_type: type[Config], **extra: Any) -> Config:
    """Return the configuration that the parsed options describe.

    Raises:
        ConfigError: naming option, value and allowed range.
    """
    known = {f.name for f in fields(config_type)}  # type: ignore[arg-type]
    values = {k: v for k, v in vars(namespace).items() if k in known and v is not None}
    return config_type(**(values | extra))


def _add_option(parser: argparse._ArgumentGroup, f: Field[Any]) -> None:
    meta = f.metadata
    name = f.name.replace("_", "-")
    if isinstance(f.default, bool):
        # A switch only ever changes the default.
        flag = f"--no-{name}" if f.default else f"--{name}"
        action = "store_false" if f.default else "store_true"
        parser.add_argument(
            flag,
            dest=f.name,
            action=action,
            default=None,
            help=f"{'do not ' if f.default else ''}{meta['description']}",
        )
        return
    text = f"{meta['description']} (default: {f.default}{_unit(meta)}{_range(meta)})"
    if meta["choices"]:
        text = f"{meta['description']} (default: {f.default}; {', '.join(meta['choices'])})"
    kind: Any = type(f.default)
    parser.add_argument(
        f"--{name}",
        dest=f.name,
        type=kind,
        default=None,
        metavar=kind.__name__.upper(),
        help=text.replace("%", "%%"),
    )


def _unit(meta: Any) -> str:
    return f" {meta['unit']}" if meta["unit"] else ""


def _range(meta: Any) -> str:
    low, high = meta["ge"], meta["le"]
    return "" if low is None or high is None else f", {low:g} to {high:g}"
