# SPDX-License-Identifier: Apache-2.0
"""C++ programs that look at rings, built without the rest of the core."""

from __future__ import annotations

import subprocess
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "controllers" / "core"
SOURCES = ("ring_file", "realtime", "shm_ring", "stamp")
INCLUDES = ("-I", str(CORE / "include"), "-I", str(CORE / "src"))


def build_library(folder: Path) -> Path:
    """Compile the sources of the ring; return the folder with the objects."""
    for name in SOURCES:
        _compile("-O2", "-c", "-o", str(folder / f"{name}.o"), str(CORE / "src" / f"{name}.cpp"))
    return folder


def build_program(library: Path, name: str, *options: str) -> Path:
    """Compile a program of ``controllers/core/test`` and link it with the objects."""
    program = library / "-".join((name, *(str(len(o)) for o in options)))
    objects = [str(library / f"{source}.o") for source in SOURCES]
    source = str(CORE / "test" / f"{name}.cpp")
    _compile("-O2", *options, "-o", str(program), source, *objects, "-lrt", "-pthread")
    return program


def _compile(*arguments: str) -> None:
    command = ["g++", "-std=c++17", *INCLUDES, *arguments]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
