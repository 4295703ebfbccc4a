# SPDX-License-Identifier: Apache-2.0
"""What the set-up refuses, and what it says then."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import preflight
from bootstrap.problem import SetupError
from bootstrap.ros import SUPPORTED_DISTROS, WHEELS, choose_ros, has_package
from bootstrap.shell import explain


def test_choose_ros_takes_wheels_when_nothing_is_sourced() -> None:
    assert choose_ros({}, rclpy_found=False) == WHEELS


@pytest.mark.parametrize("distro", SUPPORTED_DISTROS)
def test_choose_ros_takes_the_sourced_distribution(distro: str) -> None:
    assert choose_ros({"ROS_DISTRO": distro}, rclpy_found=True) == distro


def test_choose_ros_refuses_humble_and_names_the_supported_ones() -> None:
    with pytest.raises(SetupError) as raised:
        choose_ros({"ROS_DISTRO": "humble"}, rclpy_found=True)
    assert all(distro in raised.value.problem for distro in ("humble", *SUPPORTED_DISTROS))


def test_choose_ros_refuses_a_sourced_ros_that_this_python_cannot_import() -> None:
    with pytest.raises(SetupError, match="cannot import its rclpy"):
        choose_ros({"ROS_DISTRO": "jazzy"}, rclpy_found=False)


def test_has_package_looks_into_every_prefix(tmp_path: Path) -> None:
    (tmp_path / "share" / "tf2_msgs").mkdir(parents=True)
    environ = {"AMENT_PREFIX_PATH": f"/nowhere:{tmp_path}"}
    assert has_package(environ, "tf2_msgs")
    assert not has_package(environ, "absent_msgs")
    assert not has_package({}, "tf2_msgs")


@pytest.mark.parametrize("version", [(3, 10), (3, 15), (2, 7)])
def test_check_python_refuses_versions_without_wheels(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match=r"needs 3\.11 to 3\.14"):
        preflight.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_check_python_accepts_the_bounds(version: tuple[int, int]) -> None:
    preflight.check_python(version)


def test_check_platform_refuses_arm_without_a_sourced_ros_only() -> None:
    with pytest.raises(SetupError, match="x86_64 only"):
        preflight.check_platform("Linux", "aarch64", WHEELS)
    preflight.check_platform("Linux", "aarch64", "jazzy")


def test_check_platform_refuses_other_systems() -> None:
    with pytest.raises(SetupError, match="runs on Linux"):
        preflight.check_platform("Darwin", "x86_64", "jazzy")


def test_check_disk_names_the_free_and_the_needed_space(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"Only 1\.0 GB .* needs 4 GB"):
        preflight.check_disk(tmp_path, free_bytes=1024**3)


def test_check_compiler_refuses_a_machine_without_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No C") as raised:
        preflight.check_compiler({"PATH": str(tmp_path)})
    assert "apt install g++" in raised.value.remedy


def test_check_compiler_refuses_one_that_does_not_work(tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'bad option' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SetupError, match=r"cannot compile a C\+\+17 program \(bad option\)"):
        preflight.check_compiler({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution", "not be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS", "lock file names"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "out of memory"),
    ],
)
def test_explain_recognises_the_cause(output: str, problem: str) -> None:
    assert problem in explain(["pip", "install"], 1, output, Path("setup.log")).problem


def test_explain_shows_the_tail_of_an_unknown_failure() -> None:
    error = explain(["/x/cmake", "--build", "b"], 2, "first\nlast line", Path("setup.log"))
    assert "cmake --build b ended with exit code 2" in error.problem
    assert "last line" in error.problem
    assert "setup.log" in error.remedy
