# SPDX-License-Identifier: Apache-2.0
"""The weights that come with the package: in order, and able to do what they are there for."""

from __future__ import annotations

from contextlib import closing

import pytest

from vla_ros.learning.manifest import ACTIONS, CAMERAS
from vla_ros.policies.instruction import ALL_GOALS
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.onnx.inspection import inspect_policy
from vla_ros.policies.onnx.load import load_fast, load_slow
from vla_ros.policies.onnx.providers import CPU, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import LEARNED, make_instruction_check, policy_folder
from vla_ros.sim.tasks import instruction_for_seed

pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.sim, pytest.mark.weights]

RUNTIME = PolicyRuntime(session=SessionSettings(provider=CPU))
SEEDS = (0, 1)


def test_every_check_of_an_export_passes():
    folder = open_policy(policy_folder(LEARNED))
    assert folder.manifest.name == LEARNED
    assert folder.manifest.actions == ACTIONS
    assert {found.what for found in inspect_policy(folder, RUNTIME)} >= {"graph slow", "graph fast"}


def test_every_goal_is_understood():
    for goal in ALL_GOALS:
        make_instruction_check(LEARNED).check_instruction(goal.text)


def test_it_follows_instructions_in_virtual_time_with_a_slow_half_of_half_a_second():
    from vla_ros.sim.lockstep import LockstepConfig, LockstepRunner

    folder = policy_folder(LEARNED)
    config = LockstepConfig(slow_latency_ms=500.0, max_duration_s=20.0)
    results = []
    for seed in SEEDS:
        slow, fast = load_slow(folder, RUNTIME), load_fast(folder, RUNTIME)
        runner = LockstepRunner(config, slow_policy=slow, fast_policy=fast, cameras=CAMERAS)
        with closing(runner):
            results.append(runner.run(seed, instruction_for_seed(seed)))
    assert any(result.success for result in results), results
    assert all(result.rows_after_expiry == 0 for result in results)
    assert all(result.age_error_ms_max < 1.0 for result in results)
