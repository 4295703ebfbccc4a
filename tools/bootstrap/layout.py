# SPDX-License-Identifier: Apache-2.0
"""Where things lie in the repository and in the virtual environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, Mapping, NamedTuple

from bootstrap.ros import WHEELS

# Variables of the caller that would send pip or Python elsewhere. The last one is the mark of the
# ROS wheels that the library path is set; it would be the path of another environment.
_DROPPED = (
    "PYTHONHOME",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


class Layout(NamedTuple):
    """Folders of one clone; ros is the result of choose_ros()."""

    root: Path
    ros: str

    @property
    def venv(self) -> Path:
        """The virtual environment; with the wheels also the ROS prefix."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Interpreter of the virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where pip installs to."""
        version = "python%d.%d" % sys.version_info[:2]
        return self.venv / "lib" / version / "site-packages"

    @property
    def build(self) -> Path:
        """Everything that is made on the way."""
        return self.root / "build"

    @property
    def wheels(self) -> Path:
        """Downloaded packages, until they are installed."""
        return self.build / "wheels"

    @property
    def lock(self) -> Path:
        """The pinned requirements."""
        name = "lock.txt" if self.ros == WHEELS else "lock-ros-installed.txt"
        return self.root / "requirements" / name

    @property
    def bootstrap_lock(self) -> Path:
        """The pinned pip and setuptools."""
        return self.root / "requirements" / "bootstrap.txt"


def command_environment(layout: Layout, environ: Mapping[str, str]) -> Dict[str, str]:
    """Environment for the commands of the set-up: the caller's, with .venv in front."""
    result = {name: value for name, value in environ.items() if name not in _DROPPED}
    result.update(
        PATH="%s:%s" % (layout.venv / "bin", environ.get("PATH", os.defpath)),
        VIRTUAL_ENV=str(layout.venv),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
    )
    return result


def prepend(environ: Mapping[str, str], name: str, folder: Path) -> str:
    """Value of a path variable with the folder in front."""
    rest = environ.get(name, "")
    return "%s:%s" % (folder, rest) if rest else str(folder)
