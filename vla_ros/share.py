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
