# SPDX-License-Identifier: Apache-2.0
"""Stage `messages`: the interface packages, generated and built into .venv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, List, Sequence

from bootstrap.layout import Layout, prepend
from bootstrap.ros import WHEELS, has_package
from bootstrap.shell import Shell
from bootstrap.stage import files_under


def interface_packages(layout: Layout) -> Sequence[Path]:
    """Source folders of the packages to build.

    tf2_msgs is part of every ROS 2 installation, but not on PyPI.
    """
    ours = layout.root / "vla_ros_msgs"
    if layout.ros != WHEELS and has_package(os.environ, "tf2_msgs"):
        return [ours]
    return [layout.root / "tools" / "ros_packages" / "tf2_msgs", ours]


def message_inputs(layout: Layout) -> List[Path]:
    """Files that the built packages depend on."""
    patterns = ("*.msg", "*.srv", "*.action", "package.xml", "CMakeLists.txt")
    return [
        path for folder in interface_packages(layout) for path in files_under(folder, *patterns)
    ]


def build_messages(layout: Layout, shell: Shell) -> None:
    """Generate, compile and install every interface package."""
    for source in interface_packages(layout):
        _build(layout, shell, source, layout.build / "messages" / source.name)


def _build(layout: Layout, shell: Shell, source: Path, build: Path) -> None:
    variables = _variables(layout)
    cmake = layout.venv / "bin" / "cmake"
    shell.run([cmake, "-S", source, "-B", build, "-G", "Ninja", *_definitions(layout)], **variables)
    shell.run([cmake, "--build", build], **variables)
    manifest = build / "install_manifest.txt"
    before = _listed(manifest)
    shell.run([cmake, "--install", build], **variables)
    # A message that was deleted or renamed must not stay importable.
    for path in before - _listed(manifest):
        if layout.venv in path.parents:
            path.unlink(missing_ok=True)


def _definitions(layout: Layout) -> Iterable[str]:
    return (
        "-DPython3_EXECUTABLE=%s" % layout.python,
        "-DPython3_FIND_VIRTUALENV=ONLY",
        "-DCMAKE_INSTALL_PREFIX=%s" % layout.venv,
        "-DCMAKE_BUILD_TYPE=",  # unoptimised: half the compile time; payloads are copied whole
        "-DBUILD_TESTING=OFF",
    )


def _variables(layout: Layout) -> Dict[str, str]:
    names = {
        "AMENT_PREFIX_PATH": layout.venv,
        "CMAKE_PREFIX_PATH": layout.venv,
        "LD_LIBRARY_PATH": layout.venv / "lib",
    }
    if layout.ros == WHEELS:
        # The generators are Python programs: the mark spares each its second start.
        return {
            **{name: str(folder) for name, folder in names.items()},
            "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        }
    return {name: prepend(os.environ, name, folder) for name, folder in names.items()}


def _listed(manifest: Path) -> "set[Path]":
    if not manifest.is_file():
        return set()
    return {Path(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line}
