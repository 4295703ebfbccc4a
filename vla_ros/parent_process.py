# SPDX-License-Identifier: Apache-2.0
"""Child processes that do not outlive whoever started them, even if that one is killed."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT_VARIABLE = "VLA_ROS_PARENT_PID"
"""Environment variable with which a parent asks its children to end with it."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent ends, if the parent wants that."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the kernel was asked
        raise SystemExit(0)
