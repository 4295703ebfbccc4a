# SPDX-License-Identifier: Apache-2.0
"""Make the virtual environment a ROS prefix of every Python that starts in it.

The set-up copies this file into site-packages and has Python import it at start, so that scripts
of .venv/bin, and whatever they start, find the message types built into .venv and the files of
vla_ros without anything being sourced.
"""

import os
import sys

_DONE = "VLA_ROS_PREFIX"


def _prepended(name: str, folder: str) -> str:
    parts = [part for part in os.environ.get(name, "").split(os.pathsep) if part]
    return os.pathsep.join([folder, *(part for part in parts if part != folder)])


def _enter_prefix() -> None:
    prefix = sys.prefix
    libraries = os.path.join(prefix, "lib")
    loader_knows = libraries in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    tried_before = os.environ.get(_DONE) == prefix
    os.environ[_DONE] = prefix
    os.environ["AMENT_PREFIX_PATH"] = _prepended("AMENT_PREFIX_PATH", prefix)
    # The loader reads its path once, when a process starts. The ROS wheels start Python anew for
    # it; beside an installed ROS this must be done here.
    if not loader_knows and not tried_before and getattr(sys, "orig_argv", None):
        os.environ["LD_LIBRARY_PATH"] = _prepended("LD_LIBRARY_PATH", libraries)
        os.execve(sys.executable, sys.orig_argv, os.environ)


_enter_prefix()
