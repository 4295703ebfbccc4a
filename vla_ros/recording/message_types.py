# SPDX-License-Identifier: Apache-2.0
"""Message definitions for writing and reading bags without ROS."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vla_ros.errors import RecordingError


def share_folders() -> list[Path]:
    """Return the ``share`` folders that may hold ``<package>/msg/*.msg``, most specific first.

    These are the sourced ROS prefixes, this Python environment, and the folder that holds the
    ``vla_ros`` package (a checkout keeps ``vla_ros_msgs`` beside it).
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [Path(p) / "share" for p in prefixes if p]
    folders += [Path(sys.prefix) / "share", Path(__file__).resolve().parents[2]]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


class MessageTypes:
    """Definitions by type name: ROS 2 Kilted's own, everything else from ``.msg`` files.

    Args:
        folders: where to look for ``<package>/msg/<Name>.msg``; None takes ``share_folders()``.
    """

    def __init__(self, folders: Iterable[Path] | None = None) -> None:
        self.store: Typestore = get_typestore(Stores.ROS2_KILTED)
        self._folders = list(folders) if folders is not None else share_folders()

    def ensure(self, msgtype: str) -> None:
        """Make a type and everything it contains known.

        Raises:
            RecordingError: if a definition is found neither built in nor in the folders.
        """
        if msgtype in self.store.fielddefs:
            return
        typesdict = get_types_from_msg(self._find(msgtype).read_text("utf8"), msgtype)
        self.store.register(typesdict)
        for name in _referenced(typesdict[msgtype][1]):
            self.ensure(name)

    def ensure_from_text(self, msgtype: str, text: str) -> None:
        """Make a type known from the complete definition text that a bag carries."""
        if msgtype in self.store.fielddefs:
            return
        found = get_types_from_msg(text, msgtype)
        self.store.register({k: v for k, v in found.items() if k not in self.store.fielddefs})

    def definition(self, msgtype: str) -> tuple[str, str]:
        """Return the complete definition text and the RIHS01 hash of a type."""
        self.ensure(msgtype)
        text, _ = self.store.generate_msgdef(msgtype, ros_version=2)
        return text, self.store.hash_rihs01(msgtype)

    def _find(self, msgtype: str) -> Path:
        package, _, name = msgtype.partition("/msg/")
        for folder in self._folders:
            path = folder / package / "msg" / f"{name}.msg"
            if path.is_file():
                return path
        tried = ", ".join(str(folder) for folder in self._folders) or "no folder"
        raise RecordingError(f"no definition of {msgtype} found; looked in {tried}")


def _referenced(fields: Iterable[tuple[str, object]]) -> list[str]:
    """Return the names of the message types that a field list mentions."""
    names: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, str) and "/msg/" in node:
            names.append(node)
        elif isinstance(node, tuple):
            for child in node:
                visit(child)

    for _, description in fields:
        visit(description)
    return names
