# SPDX-License-Identifier: Apache-2.0
"""A few seconds of the fuzz target in every run of the tests; `make fuzz` takes longer.

The core that is linked is the one of the installation, so that only the target is compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "controllers" / "core" / "test"
CMEEL = Path(sysconfig.get_paths()["purelib"]) / "cmeel.prefix"
BUILT = ROOT / "build" / "core"
NAMED = os.environ.get("VLA_ROS_CORE_LIBRARY")
LIBRARY = Path(NAMED or BUILT / "libvla_ros_core.a")
IS_BUILT = bool(NAMED) or BUILT.is_dir()  # without the library in it, the test fails


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not IS_BUILT, reason="needs the core as `make setup` builds it")
def test_random_bytes_break_no_promise_of_the_law(tmp_path: Path) -> None:
    program = tmp_path / "fuzz_law"
    command = ["g++", "-std=c++17", "-O1", "-o", str(program)]
    command += [str(TARGET / "fuzz_law.cpp"), str(TARGET / "fuzz_main.cpp")]
    command += ["-I", str(TARGET.parent / "include"), "-isystem", str(CMEEL / "include/eigen3")]
    command += [str(LIBRARY), "-L", str(CMEEL / "lib"), f"-Wl,-rpath,{CMEEL / 'lib'}"]
    command += ["-lpinocchio_default", "-lpinocchio_parsers", "-lurdfdom_model", "-lrt"]
    command += ["-pthread", "-ldl", "-fopenmp"]  # the last because Pinocchio asks for it
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    done = subprocess.run(
        [str(program), "3", "1"],
        cwd=tmp_path,
        env=os.environ | {"FUZZ_KEEP_LAST": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 100, done.stdout
