# SPDX-License-Identifier: Apache-2.0
"""Settings of the admittance law that are refused, and what a tick costs in allocations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from admittance_rig import Rig, describe, settings
from allocation_counter import run_counted

import vla_ros_core as core
from vla_ros.control.host import build_model

pytestmark = pytest.mark.sim


def asymmetric() -> np.ndarray:
    matrix = np.eye(6)
    matrix[0, 1] = 0.5
    return matrix


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("body", "mass", 0.05 * np.eye(6), r"body.mass\[0,0\] must be between 0.1 and 100, got 0"),
        ("body", "mass", asymmetric(), "body.mass must be symmetric"),
        ("body", "mass", np.ones((6, 6)), "smallest eigenvalue of body.mass"),
        ("body", "stiffness", np.full((6, 6), np.nan), "body.stiffness must be finite"),
        ("body", "stiffness", -np.eye(6), r"body.stiffness\[0,0\] must be between 0 and 5000"),
        ("body", "stiffness", 4 - 2 * np.eye(6), "body.stiffness must have no negative"),
        ("body", "damping", np.zeros((6, 6)), "damping over mass must be between 0.1"),
        ("body", "damping_ratio", 0.0, "body.damping_ratio must be between 0.1 and 5, got 0"),
        ("wrench", "timeout_s", 0.0, "wrench.timeout_s must be between"),
        ("wrench", "force_dead_band_n", -1.0, "wrench.force_dead_band_n must be between 0 and 50"),
        ("limits", "speed_m_s", np.inf, "limits.speed_m_s must be between"),
        ("limits", "offset_rad", 3.0, "limits.offset_rad must be between 0.001 and 2.5, got 3"),
        ("joints", "velocity_limit", [1.0] * 6, "joints.velocity_limit needs 7 values, got 6"),
        ("joints", "acceleration_limit", [0.0] * 7, r"joints.acceleration_limit\[0\] must be"),
        ("joints", "smallest_singular_value", 0.0, "joints.smallest_singular_value must be"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name_value_and_range(part, field, value, message):
    arm = describe("fr3")
    config = settings(arm, **{part: {field: value}})
    with pytest.raises(core.Error, match=message):
        core.AdmittanceLaw(config, build_model(arm))


def test_a_free_direction_needs_damping_of_its_own():
    arm = describe("fr3")
    free = np.diag([0.0, 200, 200, 10, 10, 10])
    config = settings(arm, body={"stiffness": free, "damping_ratio": 1.0})
    with pytest.raises(core.Error, match="damping over mass"):
        core.AdmittanceLaw(config, build_model(arm))
    rig = Rig("fr3", 500, body={"stiffness": free})
    rig.law.wrench[0] = 5.0
    rig.run(1.0)
    # F / D for as long as it is pushed, then it stays.
    assert rig.law.offset_rate[0] == pytest.approx(0.1, rel=1e-6)
    rig.law.wrench[0] = 0.0
    rig.run(1.0)
    assert abs(rig.law.offset_rate[0]) < 1e-9
    assert rig.law.offset[0] == pytest.approx(0.1, rel=1e-6)


RUN = """
import ctypes, sys
from admittance_rig import Rig
from vla_ros.control.host import build_model
import vla_ros_core as core

counter = ctypes.CDLL(sys.argv[1])
counter.count_end.restype = ctypes.c_long
rig = Rig("fr3", 500)
watcher = core.ExternalWrenchEstimator(core.WrenchEstimatorConfig(), build_model(rig.arm))
rig.law.wrench[:] = 3.0
for n in (10, 100, 200, 400):
    counter.count_begin()
    for k in range(n):
        rig.law.step(0.002 + 1e-6 * (k % 2))
        watcher.step(0.002)
    print(counter.count_end())
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_tick_allocates_nothing(tmp_path: Path):
    done = run_counted(RUN, tmp_path)
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.split()]
    assert counts[1] == counts[2] == counts[3], counts
