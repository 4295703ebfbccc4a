#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the C++ core with sanitizers and runs its test driver or its fuzz target.

Behind `make sanitize` and `make fuzz`; `ring` looks for torn reads, without sanitizers. With Clang
in the path the fuzz target is driven by libFuzzer (Debian: clang, libclang-rt-dev, libomp-dev),
else by a seeded driver of its own.
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
RING_SOURCES = ("ring_file", "realtime", "shm_ring", "stamp")
CLANGS = ("clang++", "clang++-19", "clang++-18", "clang++-16", "clang++-14")


def main() -> int:
    """Build and run what was asked for; returns the exit status of the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=("exercise", "fuzz", "ring"))
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reads", type=int, default=10**7, help="reads of a ring, of 64 KiB each")
    options = parser.parse_args()
    if options.program == "ring":
        return check_ring(options.reads)
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


def check_ring(reads: int) -> int:
    """Read rings of two sizes while another process overwrites them; a thousandth of 16 MiB."""
    core, program = ROOT / "controllers" / "core", ROOT / "build" / "ring_check"
    program.parent.mkdir(exist_ok=True)
    sources = [core / "test" / "ring_check.cpp"]
    sources += [core / "src" / f"{name}.cpp" for name in RING_SOURCES]
    command = ["g++", "-std=c++17", "-O3", "-o", str(program), *map(str, sources)]
    command += ["-I", str(core / "include"), "-I", str(core / "src"), "-lrt", "-pthread"]
    subprocess.run(command, check=True)
    sizes = ((64 << 10, reads), (16 << 20, max(1, reads // 1000)))
    worst = 0
    for mode in ("copy", "view"):
        for size, n in sizes:
            worst = max(worst, run_ring_check(program, size, n, mode))
    # Without the check after the copy, torn reads are what must be found.
    return worst or int(run_ring_check(program, 16 << 20, 500, "unguarded") != 1)


def run_ring_check(program: Path, size: int, reads: int, mode: str) -> int:
    """Return the exit status: 1 if a read was torn."""
    return subprocess.run([program, str(size), str(reads), "2", mode], check=False).returncode


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
