# SPDX-License-Identifier: Apache-2.0
"""Finds the files that come with the package: settings of robots, launch files."""

from __future__ import annotations

import sys
from pathlib import Path

from vla_ros.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def share_folders() -> list[Path]:
    """Return where shared files may be: a source checkout, an installed prefix (pip or colcon)."""
    prefixes = [Path(sys.prefix), *_PACKAGE.parents[:4]]
    return [_PACKAGE.parent, *(prefix / "share" / "vla_ros" for prefix in prefixes)]


def find_shared(name: str) -> Path:
    """Return a shared file or folder, such as ``config/robots``.

    Raises:
        ConfigError: if it is nowhere; the message says where it was looked for.
    """
    for folder in share_folders():
        if (folder / name).exists():
            return folder / name
    looked = ", ".join(str(folder) for folder in share_folders())
    raise ConfigError(f"{name} is missing from the installation; looked in {looked}")


def known_settings(folder: str) -> list[str]:
    """Return the names of the settings files (.yaml) of a shared folder."""
    return sorted(path.stem for path in find_shared(folder).glob("*.yaml"))


def read_settings(folder: str, what: str, name_or_path: str) -> tuple[Path, str]:
    """Return path and text of a settings file: one of a shared folder by its name, or one's own.

    Raises:
        ConfigError: if there is no such file; ``what`` says what it would have been.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in known_settings(folder):
            raise ConfigError(
                f"unknown {what} {name_or_path!r}; known: {', '.join(known_settings(folder))}, "
                "or the path of a .yaml file"
            )
        path = find_shared(folder) / f"{name_or_path}.yaml"
    try:
        return path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
