# SPDX-License-Identifier: Apache-2.0
"""The examples run, and give what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from vla_ros import cli

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exported_policy_rises_with_the_light_and_passes_its_check(tmp_path):
    example = load("01_exported_policy")
    example.export(tmp_path)
    chunk = example.rows_of(tmp_path)
    # Noise is half as bright as white.
    np.testing.assert_allclose(np.diff(chunk.positions[:, 2]), 0.5 * example.RISE_M, rtol=0.02)
    assert cli.main(["policy", "check", str(tmp_path)]) == 0
