# SPDX-License-Identifier: Apache-2.0
"""Simulation: scenes, tasks, judges, cameras, virtual time. The only place that imports MuJoCo."""

import os

# Both are read once, when MuJoCo is imported and when the GL library loads. One drawing thread,
# because llvmpipe otherwise takes every core and the control loop with it.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
