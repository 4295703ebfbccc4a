# SPDX-License-Identifier: Apache-2.0
"""The packages agree with one another: versions, messages, locks, what colcon sees."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import vla_ros

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = ROOT / "vla_ros_msgs"
PACKAGE_FILES = (
    "package.xml",
    "vla_ros_msgs/package.xml",
    "controllers/core/package.xml",
    "controllers/plugin/package.xml",
)


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_package_xml_states_the_version_of_the_python_package(name: str) -> None:
    assert ElementTree.parse(ROOT / name).findtext("version") == vla_ros.__version__


def test_core_pyproject_states_the_version_of_the_python_package() -> None:
    project = tomllib.loads((ROOT / "controllers/core/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == vla_ros.__version__


def test_every_interface_file_is_generated() -> None:
    cmake = (MESSAGES / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\s+((?:msg|srv|action)/\w+\.\w+)$", cmake, flags=re.MULTILINE))
    present = {
        path.relative_to(MESSAGES).as_posix()
        for suffix in ("msg", "srv", "action")
        for path in MESSAGES.glob(f"{suffix}/*.{suffix}")
    }
    assert listed == present


def test_every_declared_node_has_a_module() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for name in re.findall(r'^    "(\w+_node)",$', setup, flags=re.MULTILINE):
        assert (ROOT / "vla_ros" / "nodes" / f"{name}.py").is_file(), name


@pytest.mark.parametrize("name", ["bootstrap.txt", "lock.txt", "lock-ros-installed.txt"])
def test_every_locked_package_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    assert lines
    for line in lines:
        assert re.match(r"^[\w.\-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_lock_for_an_installed_ros_holds_no_ros_wheel() -> None:
    text = (ROOT / "requirements" / "lock-ros-installed.txt").read_text(encoding="utf-8")
    assert re.findall(r"^(?:ros-|empy|colcon)\S*", text, flags=re.MULTILINE) == []


def test_colcon_finds_the_nested_packages() -> None:
    colcon = Path(sys.executable).with_name("colcon")
    program = str(colcon) if colcon.exists() else shutil.which("colcon")
    if program is None:
        pytest.skip("colcon is not installed")
    done = subprocess.run(
        [program, "list", "--names-only"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = ["vla_ros", "vla_ros_controllers", "vla_ros_core", "vla_ros_msgs"]
    assert done.stdout.split() == names
