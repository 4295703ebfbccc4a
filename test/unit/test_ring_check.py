# SPDX-License-Identifier: Apache-2.0
"""Two processes, one overwriting a ring as fast as it can: no read is torn that was called good.

`tools/core_checks.py ring` does the same with 10^7 reads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ring_programs import build_program

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors"),
]


@pytest.fixture(scope="module")
def program(ring_library: Path) -> Path:
    return build_program(ring_library, "ring_check")


def check(program: Path, payload_bytes: int, reads: int, mode: str) -> dict[str, Any]:
    command = [str(program), str(payload_bytes), str(reads), "2", mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("mode", ["copy", "view"])
@pytest.mark.parametrize(("payload_bytes", "reads"), [(65536, 30000), (4 << 20, 100)])
def test_no_read_is_torn_while_another_process_overwrites(
    program: Path, payload_bytes: int, reads: int, mode: str
) -> None:
    result = check(program, payload_bytes, reads, mode)
    assert result["torn"] == 0
    assert result["reads"] == reads


def total_until(program: Path, mode: str, what: str, enough: int) -> int:
    """Read on until it happened often enough: on a busy machine the two may take turns for long."""
    total = 0
    for _ in range(40):
        total += check(program, 4 << 20, 200, mode)[what]
        if total >= enough:
            break
    return total


def test_without_the_check_afterwards_torn_reads_are_found(program: Path) -> None:
    """Else the test above would pass with any ring."""
    assert total_until(program, "unguarded", "torn", 1) >= 1


def test_reads_are_retried_so_the_writer_was_really_in_the_way(program: Path) -> None:
    assert total_until(program, "copy", "retried", 2) >= 2
