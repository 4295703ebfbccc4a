# SPDX-License-Identifier: Apache-2.0
"""A measurement that is not finite: what the control host does then and when it is good again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from core_program import NEEDS_CORE_LIBRARY, compile_program

from vla_ros.types import ControlMode

pytestmark = NEEDS_CORE_LIBRARY

FIRST, TICKS = 300, 900
LARGEST_STEP_NM = 1.0  # 1000 N·m/s at 1 kHz
SHARE = 1 - np.exp(-1e-3 / 0.02)  # of one tick in a low-pass of 20 ms


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("program"), "lost_measurement.cpp")


def run(program: Path, field: str, value: str, count: int) -> dict[str, np.ndarray]:
    """Return columns of all ticks; the measurement is spoilt in ``count`` of them."""
    prefix = f"vla_ros.lost{os.getpid()}"
    arguments = [prefix, field, value, str(FIRST), str(count), str(TICKS)]
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    ticks = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: np.array([tick[name] for tick in ticks]) for name in ticks[0]}


@pytest.mark.parametrize("field", ["q", "dq"])
@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("count", [1, 4, 20])
def test_spoilt_measurement_is_a_fault_and_reaches_neither_torque_nor_estimate(
    program: Path, field: str, value: str, count: int
) -> None:
    ticks = run(program, field, value, count)
    for name in ("tau", "tau_external", "wrench_external"):
        assert np.isfinite(ticks[name]).all(), name
    assert np.abs(np.diff(ticks["tau"], axis=0)).max() <= LARGEST_STEP_NM + 1e-9
    lost = slice(FIRST, FIRST + count)
    # Before: somebody holds the arm against the spring of the law.
    before = ticks["bias"] - ticks["tau"]
    assert np.abs(before[FIRST - 1]).max() > 1
    np.testing.assert_allclose(ticks["tau_external"][FIRST - 1], before[FIRST - 1], atol=1e-3)
    # During: gravity alone as of the last good measurement, and no estimate.
    assert (ticks["mode"][:FIRST] == ControlMode.IDLE).all()
    assert (ticks["mode"][FIRST:] == ControlMode.FAULT).all()
    assert (ticks["tau_external"][lost] == 0).all()
    assert (ticks["wrench_external"][lost] == 0).all()
    # After: the fault stays, but the estimate is right again. The arm creeps against the damping.
    after = ticks["bias"][-1] - ticks["tau"][-1]
    assert np.abs(after).max() > 0.005
    np.testing.assert_allclose(ticks["tau_external"][-1], after, atol=1e-6)
    # Nothing of before or of the gap is in it: a low-pass that began at zero.
    begun = FIRST + count
    estimate = np.zeros_like(after)
    for i in range(begun, TICKS):
        if i > begun:
            estimate += SHARE * (ticks["bias"][i] - ticks["tau"][i - 1] - estimate)
        np.testing.assert_allclose(ticks["tau_external"][i], estimate, atol=1e-9)
