# SPDX-License-Identifier: Apache-2.0
"""Lets tests import the sample builders that lie beside them, whatever pytest's import mode."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
