# SPDX-License-Identifier: Apache-2.0
"""Compiles a test program of the core; what is linked is the core of the installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "controllers" / "core" / "test"
CMEEL = Path(sysconfig.get_paths()["purelib"]) / "cmeel.prefix"
BUILT = ROOT / "build" / "core"
NAMED = os.environ.get("VLA_ROS_CORE_LIBRARY")
LIBRARY = Path(NAMED or BUILT / "libvla_ros_core.a")
IS_BUILT = bool(NAMED) or BUILT.is_dir()  # without the library in it, the test fails
NEEDS_CORE_LIBRARY = pytest.mark.skipif(
    shutil.which("g++") is None or not IS_BUILT,
    reason="needs g++ and the core as `make setup` builds it",
)


def compile_program(folder: Path, *sources: str) -> Path:
    """Return the program made of files of controllers/core/test, named after the first."""
    program = folder / Path(sources[0]).stem
    command = ["g++", "-std=c++17", "-O1", "-o", str(program)]
    command += [str(SOURCES / source) for source in sources]
    command += ["-I", str(SOURCES.parent / "include"), "-isystem", str(CMEEL / "include/eigen3")]
    command += [str(LIBRARY), "-L", str(CMEEL / "lib"), f"-Wl,-rpath,{CMEEL / 'lib'}"]
    command += ["-lpinocchio_default", "-lpinocchio_parsers", "-lurdfdom_model", "-lrt"]
    command += ["-pthread", "-ldl", "-fopenmp"]  # the last because Pinocchio asks for it
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    return program
