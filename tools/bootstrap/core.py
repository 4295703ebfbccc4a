# SPDX-License-Identifier: Apache-2.0
"""Stage `core`: the C++ package vla_ros_core, built and installed into .venv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from bootstrap.layout import Layout, prepend
from bootstrap.shell import Shell
from bootstrap.stage import files_under

_PATTERNS = ("*.cpp", "*.hpp", "*.h", "*.py", "*.pyi", "*.cmake", "CMakeLists.txt", "*.toml")


def core_folder(layout: Layout) -> Path:
    """Source of the package."""
    return layout.root / "controllers" / "core"


def core_inputs(layout: Layout) -> List[Path]:
    """Files that the installed package depends on; its tests are not among them."""
    source = core_folder(layout)
    found = files_under(source, *_PATTERNS)
    return [path for path in found if path.relative_to(source).parts[0] != "test"]


def build_core(layout: Layout, shell: Shell) -> None:
    """Compile what has changed since the last time and install the package."""
    cmeel = layout.site_packages / "cmeel.prefix"
    mujoco = layout.site_packages / "mujoco" / "include"
    shell.run(
        [
            *(
                layout.python,
                "-m",
                "pip",
                "install",
                "--no-deps",
                "--no-index",
                "--force-reinstall",
            ),
            *("--no-build-isolation", "--verbose", core_folder(layout)),
            "--config-settings=build-dir=%s" % (layout.build / "core"),
            "--config-settings=cmake.define.VLA_ROS_MUJOCO_INCLUDE=%s" % mujoco,
        ],
        CMAKE_PREFIX_PATH=prepend(os.environ, "CMAKE_PREFIX_PATH", cmeel),
        CMAKE_GENERATOR="Ninja",
    )
