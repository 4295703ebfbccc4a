# SPDX-License-Identifier: Apache-2.0
"""The law allocates nothing, in every mode and for arms of several numbers of joints."""

import shutil
from pathlib import Path

import pytest
from allocation_counter import run_counted

RUN = """
import ctypes, itertools, sys
import numpy as np
import vla_ros_core as core
from chain_robot import chain_model

counter = ctypes.CDLL(sys.argv[1])
counter.count_end.restype = ctypes.c_long
random = np.random.default_rng(0)
kinds = (core.LawKind.IMPEDANCE, core.LawKind.OPERATIONAL_SPACE, core.LawKind.JOINT)
designs = (core.DampingDesign.INERTIA_AWARE, core.DampingDesign.PLAIN)
projectors = (core.Projector.DYNAMIC, core.Projector.KINEMATIC, core.Projector.NONE)
axes = (core.TaskAxes.BASE, core.TaskAxes.END_EFFECTOR)

def run_mode(n, model, kind, design, projector, axis, gravity, coriolis):
    config = core.LawConfig.for_joints(n)
    config.kind, config.damping_design = kind, design
    config.projector, config.axes = projector, axis
    config.compensate_gravity, config.compensate_coriolis = gravity, coriolis
    config.torque_limit, config.torque_rate_limit = [80.0] * n, [1000.0] * n
    config.velocity_limit = [0.5] * n
    gains = config.gains
    gains.manipulability_gain = gains.limit_avoidance_gain = 1.0
    config.gains = gains
    filters = config.filters
    filters.position_s = filters.velocity_s = filters.target_s = filters.torque_s = 0.002
    config.filters = filters
    law = core.Law(config, model)
    inputs = random.normal(0, 0.5, (10, n))
    law.acceleration[:] = 1.0  # needs the mass matrix where nothing else does
    law.step(1e-3)
    gains.stiffness = 0.5 * gains.stiffness
    config.gains = gains
    law.apply(config)  # ramped within the ticks that are counted
    total = 0
    for q in inputs:
        law.q[:], law.dq[:], law.position[:] = q, q, q[:3]
        counter.count_begin()
        law.step(1e-3)
        total += counter.count_end()
    return total

counter.count_begin()
block = bytearray(10_000_000)
assert counter.count_end() > 0, "the counter counts nothing"
worst = {}
for n in (6, 7, 14):
    model = chain_model(n)
    for mode in itertools.product(kinds, designs, projectors, axes, (True, False), (True, False)):
        total = run_mode(n, model, *mode)
        if total:
            worst[(n, *map(str, mode))] = total
assert not worst, worst
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_no_mode_of_the_law_allocates(tmp_path: Path) -> None:
    done = run_counted(RUN, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
