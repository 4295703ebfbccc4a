# SPDX-License-Identifier: Apache-2.0
"""Stages: what is made from which inputs, redone only when these changed, never left half done."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Sequence, Tuple

_REMOVAL_ATTEMPTS = 20
_REMOVAL_PAUSE_S = 0.1


class Stage(NamedTuple):
    """One part of the set-up.

    name: Word for people and for the stamp file.
    key: Hash of everything that the result depends on.
    products: Folders made by the stage alone. Without a stamp they are from a failed attempt.
    action: Does the work.
    """

    name: str
    key: str
    products: Tuple[Path, ...]
    action: Callable[[], None]


def hash_inputs(root: Path, files: Iterable[Path], *facts: object) -> str:
    """Hash of the facts and of the names and contents of the files."""
    digest = hashlib.sha256(repr(facts).encode())
    for path in sorted(set(files)):
        content = path.read_bytes()
        digest.update(("\0%s\0%d\0" % (path.relative_to(root), len(content))).encode())
        digest.update(content)
    return digest.hexdigest()


def files_under(folder: Path, *patterns: str) -> Sequence[Path]:
    """Files in a folder, at any depth, whose names match one of the patterns."""
    return [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]


class Stamps:
    """Remembers which stages are done, and with which inputs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage's result is there and of these inputs."""
        return self.was_done(stage) and self._path(stage).read_text() == stage.key

    def was_done(self, stage: Stage) -> bool:
        """Whether the stage has ever succeeded, with whatever inputs."""
        return self._path(stage).is_file()

    def mark(self, stage: Stage) -> None:
        """Remember that the stage is done."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(stage).write_text(stage.key)

    def _path(self, stage: Stage) -> Path:
        return self._folder / stage.name


def run_stage(stage: Stage, stamps: Stamps) -> None:
    """Carry a stage out; what a first attempt made is removed when it fails.

    A later attempt that fails (a typing error in a C++ file, say) keeps the build folder, and with
    it the work that can be used again.
    """
    first = not stamps.was_done(stage)
    if first:
        _remove(stage.products)
    try:
        stage.action()
    except BaseException:
        if first or not stamps.was_done(stage):
            _remove(stage.products)
        raise
    stamps.mark(stage)


def _remove(folders: Iterable[Path]) -> None:
    """Remove folders; a compiler that was just told to end may still be writing into them."""
    for folder in folders:
        for _ in range(_REMOVAL_ATTEMPTS):
            shutil.rmtree(str(folder), ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_REMOVAL_PAUSE_S)


class Progress:
    """Prints one line per step, with the time since the step and since the set-up began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def announce(self, text: str) -> None:
        """Say something once."""
        # One write: two threads' lines must not run into each other.
        sys.stdout.write("[set-up] %s\n" % text)
        sys.stdout.flush()

    def step(self, name: str, action: Callable[[], object]) -> None:
        """Do the step between the line that announces it and the line that gives its time."""
        self.announce("%s ..." % name)
        began = time.monotonic()
        action()
        now = time.monotonic()
        self.announce("%s: %.1f s (total %.1f s)" % (name, now - began, now - self._began))


def print_error(text: str) -> None:
    """Tell the person on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
