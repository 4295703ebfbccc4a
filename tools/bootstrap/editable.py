# SPDX-License-Identifier: Apache-2.0
"""Stage `vla_ros`: the Python package, installed so that edits take effect at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List

from bootstrap.layout import Layout
from bootstrap.shell import Shell

_METADATA = ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "vla_ros/__init__.py")
_SHARED = ("package.xml", "launch", "config", "urdf")
_PACKAGE = "vla_ros"


def editable_inputs(layout: Layout) -> List[Path]:
    """Files from which the entry points and the version are read."""
    return [layout.root / name for name in _METADATA]


def install_editable(layout: Layout, shell: Shell) -> None:
    """Install vla_ros and make .venv look to ROS tools like a prefix that holds it."""
    shell.run(
        [
            *(layout.python, "-m", "pip", "install", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--editable", layout.root),
        ]
    )
    marker = layout.venv / "share" / "ament_index" / "resource_index" / "packages" / _PACKAGE
    marker.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(layout.root / "resource" / _PACKAGE), str(marker))
    _link(layout.venv / "share" / _PACKAGE, [layout.root / name for name in _SHARED])
    nodes = [path for path in (layout.venv / "bin").glob("*_node") if path.is_file()]
    _link(layout.venv / "lib" / _PACKAGE, [*nodes, layout.venv / "bin" / "vla-ros"])


def _link(folder: Path, targets: List[Path]) -> None:
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    for target in targets:
        if target.exists():
            os.symlink(str(target), str(folder / target.name))
