# SPDX-License-Identifier: Apache-2.0
"""ROS stays in nodes/ and launch/, MuJoCo in sim/, and the rest works without either."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vla_ros"
CORE = ROOT / "controllers" / "core"

ROS_MODULE = re.compile(
    r"^(rclpy|rosidl_\w+|ament_\w+|tf2_\w+|launch|launch_ros|\w+_msgs|std_srvs)$"
)
CORE_ROS_INCLUDE = re.compile(r'#\s*include\s*[<"](rclcpp|rcl|rmw|tf2|\w+_msgs)[/.]')
BLOCKED = (
    *("rclpy", "vla_ros_msgs", "std_msgs", "geometry_msgs", "sensor_msgs", "mujoco"),
    *("torch", "onnx", "onnxruntime", "tensorrt", "tokenizers"),
)


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def violations(allowed_folder: str, forbidden: re.Pattern[str]) -> list[str]:
    return [
        f"vla_ros/{relative(path)}:{line} imports {module}"
        for path in python_files()
        if not relative(path).startswith(f"{allowed_folder}/")
        for line, module in imported_modules(path)
        if forbidden.match(module)
    ]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_ros_is_imported_in_nodes_only() -> None:
    assert violations("nodes", ROS_MODULE) == []


def test_mujoco_is_imported_in_sim_only() -> None:
    assert violations("sim", re.compile("^mujoco$")) == []


def test_every_module_imports_without_ros_mujoco_and_torch() -> None:
    names = [
        module_name(path)
        for path in python_files()
        if not relative(path).startswith(("nodes/", "sim/")) and path.stem != "__main__"
    ]
    # One interpreter for all: in this one, another test may have imported what is blocked.
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "failed = []\n"
        f"for name in {names!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except Exception as error:\n"
        "        failed.append(f'{name}: {type(error).__name__}: {error}')\n"
        "sys.exit('\\n'.join(failed) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_core_includes_no_ros_header() -> None:
    sources = [path for suffix in ("*.cpp", "*.hpp", "*.h") for path in CORE.rglob(suffix)]
    offending = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if CORE_ROS_INCLUDE.search(line)
    ]
    assert sources
    assert offending == []


@pytest.mark.parametrize(
    "line", ["#include <rclcpp/rclcpp.hpp>", '#include "std_msgs/msg/empty.hpp"']
)
def test_core_include_check_recognises_ros_headers(line: str) -> None:
    assert CORE_ROS_INCLUDE.search(line)
