# SPDX-License-Identifier: Apache-2.0
"""Lets tests import the sample builders that lie beside them, whatever pytest's import mode."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ring_programs import build_library


@pytest.fixture(scope="session")
def ring_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the ring, compiled once for all programs that look at rings."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    return build_library(tmp_path_factory.mktemp("ring_library"))
