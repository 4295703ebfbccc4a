# SPDX-License-Identifier: Apache-2.0
"""A few seconds of the fuzz target in every run of the tests; `make fuzz` takes longer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from core_program import NEEDS_CORE_LIBRARY, compile_program


@NEEDS_CORE_LIBRARY
def test_random_bytes_break_no_promise_of_the_law(tmp_path: Path) -> None:
    program = compile_program(tmp_path, "fuzz_law.cpp", "fuzz_main.cpp")
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
