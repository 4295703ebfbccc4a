# SPDX-License-Identifier: Apache-2.0
"""Compiles the benchmark's own C++ module when something it is made of has changed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import vla_ros_core  # noqa: F401  its types must be known before those of the module
from vla_ros.errors import ConfigError
from vla_ros.share import find_shared

_MODULE = "law_bench"


def load_law_bench() -> ModuleType:
    """Return the module ``law_bench``, compiled first if need be (a minute or two).

    Raises:
        ConfigError: if the sources or a compiler are missing, or the compilation fails.
    """
    source = find_shared("bench/rendition")
    root = source.parents[1]
    build = Path(os.environ.get("VLA_ROS_BENCH_BUILD", root / "build" / "bench"))
    stamp = build / "inputs.sha256"
    wanted = _hash_of_inputs(root)
    found = sorted(build.glob(f"{_MODULE}.*.so"))
    if not found or not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        _compile(root, source, build)
        stamp.write_text(wanted, encoding="utf-8")
        found = sorted(build.glob(f"{_MODULE}.*.so"))
    spec = importlib.util.spec_from_file_location(_MODULE, found[0])
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot load {found[0]}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hash_of_inputs(root: Path) -> str:
    digest = hashlib.sha256(sys.version.encode())
    folders = ("bench/rendition", "controllers/core/include", "controllers/core/src")
    for path in sorted(p for folder in folders for p in (root / folder).rglob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _compile(root: Path, source: Path, build: Path) -> None:
    site = Path(sysconfig.get_paths()["purelib"])
    # The compiled core of the installation is used again: most of the time goes into it.
    ready = root / "build" / "core" / "libvla_ros_core.a"
    definitions = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_PREFIX_PATH": site / "cmeel.prefix",
        "Python_EXECUTABLE": sys.executable,
        "VLA_ROS_CORE_LIBRARY": ready if ready.is_file() else "",
    }
    cmake = _program("cmake")
    ninja = ["-G", "Ninja"] if _exists("ninja") else []
    settings = [f"-D{name}={value}" for name, value in definitions.items()]
    _run([cmake, "-S", str(source), "-B", str(build), *ninja, *settings])
    _run([cmake, "--build", str(build), "--parallel", "2"])


def _exists(name: str) -> bool:
    return shutil.which(name, path=_search_path()) is not None


def _program(name: str) -> str:
    found = shutil.which(name, path=_search_path())
    if found is None:
        raise ConfigError(f"{name} is missing; `make setup` installs it into .venv")
    return found


def _search_path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        env=os.environ | {"PATH": _search_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ConfigError(f"cannot compile the benchmark's module:\n{tail}")
