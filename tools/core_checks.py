#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the C++ core with sanitizers and runs its test driver or its fuzz target.

Behind `make sanitize` and `make fuzz`. With Clang in the path the fuzz target is driven by
libFuzzer (Debian: clang, libclang-rt-dev, libomp-dev), else by a seeded driver of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLANGS = ("clang++", "clang++-19", "clang++-18", "clang++-16", "clang++-14")


def main() -> int:
    """Build and run what was asked for; returns the exit status of the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=("exercise", "fuzz"))
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    site = Path(sysconfig.get_paths()["purelib"])
    clang = next((found for name in CLANGS if (found := shutil.which(name))), None)
    build = ROOT / "build" / "sanitize"
    uses_libfuzzer = options.program == "fuzz" and clang is not None
    if uses_libfuzzer:
        try:
            configure(ROOT / "build" / "fuzz", site, clang)
            build = ROOT / "build" / "fuzz"
        except subprocess.CalledProcessError:
            uses_libfuzzer = False
            print(
                "Clang cannot be used (OpenMP for it is missing?): own driver instead of libFuzzer"
            )
    if not uses_libfuzzer:
        configure(build, site, None)
    program = "fuzz_law" if options.program == "fuzz" else "exercise_core"
    subprocess.run([tool("cmake"), "--build", build, "--target", program], check=True)
    command = [str(build / "test" / program)]
    if uses_libfuzzer:
        corpus = build / "corpus"
        corpus.mkdir(exist_ok=True)
        command += [f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
        command += ["-max_len=4096", "-print_final_stats=1", str(corpus)]
    elif options.program == "fuzz":
        command += [str(options.seconds), str(options.seed)]
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(site / "cmeel.prefix" / "lib"),
        # Pinocchio comes without sanitizers: its containers do not have the marks of ours.
        "ASAN_OPTIONS": "detect_container_overflow=0:detect_odr_violation=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(command, env=environment, cwd=build, check=False).returncode


def configure(build: Path, site: Path, clang: str | None) -> None:
    """Write the build files; nothing is compiled yet."""
    settings = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "CMAKE_MAKE_PROGRAM": tool("ninja"),
        "CMAKE_CXX_FLAGS_RELWITHDEBINFO": "-O1 -g1",
        "CMAKE_PREFIX_PATH": site / "cmeel.prefix",
        "VLA_ROS_CORE_PYTHON": "OFF",
        "VLA_ROS_CORE_TESTS": "ON",
        "VLA_ROS_CORE_SANITIZE": "ON",
        "VLA_ROS_CORE_LIBFUZZER": "ON" if clang else "OFF",
    }
    if clang:
        settings["CMAKE_CXX_COMPILER"] = clang
    arguments = [f"-D{name}={value}" for name, value in settings.items()]
    source = ROOT / "controllers" / "core"
    command = [tool("cmake"), "-S", str(source), "-B", str(build), "-G", "Ninja", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def tool(name: str) -> str:
    """Return the path of a program of .venv, or of the system."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name) or name


if __name__ == "__main__":
    sys.exit(main())
