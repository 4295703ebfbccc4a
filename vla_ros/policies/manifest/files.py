# SPDX-License-Identifier: Apache-2.0
"""The folder of a policy: only files inside it, of the size and content that its manifest states.

What is small is read once and used as it was hashed. External data of graphs, which may be larger
than memory, is hashed and opened again by the inference library: who may write into the folder
while it is being loaded must be trusted.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.parse import parse_manifest
from vla_ros.policies.manifest.schema import Manifest
from vla_ros.policies.manifest.section import MAX_TEXT_BYTES

MANIFEST = "manifest.yaml"
MAX_GRAPH_BYTES = 2**31 - 1  # protobuf ends there
MAX_DATA_BYTES = 64 * 2**30
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class PolicyFolder:
    """A manifest and the folder that its files must lie in."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    def read(self, name: str, limit_bytes: int = MAX_GRAPH_BYTES) -> bytes:
        """Return the content of a file of the manifest; it is what the manifest was written for.

        Raises:
            ConfigError: if it is missing, outside the folder, too large or has another content.
        """
        stated = self._stated(name)
        data = read_contained(self.path, name, limit_bytes)
        self._compare(name, stated, hashlib.sha256(data).hexdigest(), len(data))
        return data

    def verify(self, name: str, limit_bytes: int = MAX_DATA_BYTES) -> Path:
        """Check a file as ``read`` does, without keeping it in memory; return its path."""
        stated = self._stated(name)
        path = contained(self.path, name)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(_open(path, name, limit_bytes), "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        self._compare(name, stated, digest.hexdigest(), size)
        return path

    def unlisted(self) -> list[str]:
        """Return the files in the folder that the manifest does not name; nothing reads them."""
        listed = {MANIFEST, *self.manifest.all_files}
        found = (p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        return sorted(name for name in found if name not in listed)

    def _stated(self, name: str) -> str:
        stated = self.manifest.all_files.get(name)
        if stated is None:
            raise ConfigError(f"{self.path / MANIFEST} states no sha256 of {name!r}")
        return stated

    def _compare(self, name: str, stated: str, found: str, size: int) -> None:
        if found != stated:
            raise ConfigError(
                f"{self.path / name} ({size} bytes) is not the file of the manifest: truncated or "
                f"changed; sha256 {found[:16]}..., stated {stated[:16]}..."
            )


def open_policy(path: str | Path) -> PolicyFolder:
    """Read the manifest of a policy; its other files are checked when they are read.

    Args:
        path: the folder, or the ``manifest.yaml`` in it.

    Raises:
        ConfigError: if there is none, or it is wrong.
    """
    folder = Path(path)
    if folder.name == MANIFEST:
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no policy folder {folder}")
    data = read_contained(folder, MANIFEST, MAX_TEXT_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{folder / MANIFEST} is not UTF-8: {error}") from error
    manifest = parse_manifest(text, str(folder / MANIFEST))
    return PolicyFolder(folder.resolve(), manifest, hashlib.sha256(data).hexdigest())


def read_contained(folder: Path, name: str, limit_bytes: int) -> bytes:
    """Return the content of a regular file inside ``folder`` of at most ``limit_bytes``."""
    path = contained(folder, name)
    with os.fdopen(_open(path, name, limit_bytes), "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:  # grew while it was read
        raise ConfigError(f"{path} has more than {limit_bytes} bytes")
    return data


def contained(folder: Path, name: str) -> Path:
    """Return the resolved path of a file inside ``folder``.

    Raises:
        ConfigError: if the name is absolute, has ``..``, or leads out by a symbolic link.
    """
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name:
        raise ConfigError(f"file {name!r} must be a path inside the policy's folder, without '..'")
    root = folder.resolve()
    try:
        path = (root / parts).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{folder / name} cannot be read: {error}") from error
    if not path.is_relative_to(root):
        raise ConfigError(f"{folder / name} is a link to {path}, outside the policy's folder")
    return path


def _open(path: Path, name: str, limit_bytes: int) -> int:
    """Open a regular file; a pipe in its place would make the reader wait for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = f"{path} is not a regular file"
    elif status.st_size > limit_bytes:
        problem = f"{name!r} has {status.st_size} bytes, at most {limit_bytes} are read"
    if problem:
        os.close(descriptor)
        raise ConfigError(problem)
    return descriptor
