# SPDX-License-Identifier: Apache-2.0
"""Stage `environment`: .venv with every package of the lock file, ready to build against."""

from __future__ import annotations

import shutil
import sys
import venv
from pathlib import Path

from bootstrap.layout import Layout
from bootstrap.ros import WHEELS, relocate_wheels
from bootstrap.shell import Shell
from bootstrap.stage import Progress

_HOOK = "vla_ros_prefix"


def make_environment(layout: Layout, shell: Shell, progress: Progress) -> None:
    """Make .venv anew.

    An older .venv is replaced only once every package is downloaded, so that it survives a
    failing network.
    """
    offline = _is_usable(layout)
    if offline:
        progress.step("download packages", lambda: _download(layout, shell))
        shutil.rmtree(str(layout.venv))
    progress.step("create .venv", lambda: _create(layout, shell, offline))
    if not offline:
        progress.step("download packages", lambda: _download(layout, shell))
    progress.step("install packages", lambda: _install(layout, shell))
    shutil.rmtree(str(layout.wheels))


def _is_usable(layout: Layout) -> bool:
    """Whether an older .venv has the pinned pip, for this interpreter."""
    scripts = layout.site_packages / "pip" / "__pip-runner__.py"
    return layout.python.exists() and scripts.is_file()


def _pip(layout: Layout, *arguments: object) -> list[object]:
    return [layout.python, "-m", "pip", *arguments]


def _create(layout: Layout, shell: Shell, offline: bool) -> None:
    builder = venv.EnvBuilder(
        clear=True, symlinks=True, system_site_packages=layout.ros != WHEELS, with_pip=True
    )
    builder.create(str(layout.venv))
    source = ["--no-index", "--find-links", layout.wheels] if offline else []
    shell.run(
        _pip(layout, "install", "--require-hashes", *source, "--requirement", layout.bootstrap_lock)
    )


def _download(layout: Layout, shell: Shell) -> None:
    for lock in (layout.bootstrap_lock, layout.lock):
        shell.run(
            _pip(
                layout,
                *("download", "--require-hashes", "--no-deps", "--no-build-isolation"),
                *("--progress-bar", "off", "--dest", layout.wheels, "--requirement", lock),
            )
        )


def _install(layout: Layout, shell: Shell) -> None:
    # Byte code is left to the first import: compiling all of it would take longer than it saves.
    shell.run(
        _pip(
            layout,
            *("install", "--require-hashes", "--no-deps", "--no-build-isolation", "--no-compile"),
            *("--no-index", "--find-links", layout.wheels, "--requirement", layout.lock),
        )
    )
    if layout.ros == WHEELS:
        relocate_wheels(layout.venv, _python_include(), str(_numpy_include(layout)))
    _install_hook(layout.site_packages)


def _python_include() -> str:
    import sysconfig

    return sysconfig.get_path("include")


def _numpy_include(layout: Layout) -> Path:
    return layout.site_packages / "numpy" / "_core" / "include"


def _install_hook(site_packages: Path) -> None:
    source = Path(__file__).with_name("prefix_hook.py")
    shutil.copyfile(str(source), str(site_packages / ("%s.py" % _HOOK)))
    # Python imports this line at every start, after that of the ROS wheels.
    (site_packages / ("%s.pth" % _HOOK)).write_text("import %s\n" % _HOOK)


def python_identity() -> str:
    """What ties a virtual environment to an interpreter."""
    return "%s %s" % (sys.version, Path(sys.executable).resolve())
