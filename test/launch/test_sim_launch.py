# SPDX-License-Identifier: Apache-2.0
"""The launch file on a machine that has launch_ros: all nodes become active."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "sim.launch.py"
LIMIT_S = 60.0

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        importlib.util.find_spec("launch_ros") is None,
        reason="needs launch_ros, which is not on PyPI: source a ROS 2 installation",
    ),
]


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Path]:
    log = tmp_path / "launch.log"
    arguments = [f"out:={tmp_path}", f"shm_prefix:=vla_ros.launch{os.getpid()}", "viewer:=false"]
    arguments.append("policy:=classical")  # the launch file is tried, without need of weights
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["ros2", "launch", str(LAUNCH_FILE), *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield log
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def test_all_nodes_become_active(launched: Path) -> None:
    names = ("control_node", "supervisor_node", "executor_node", "camera_node", "vla_node")
    deadline = time.monotonic() + LIMIT_S
    waiting = set(names)
    while waiting and time.monotonic() < deadline:
        for name in sorted(waiting):
            command = ["ros2", "lifecycle", "get", f"/{name}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
            if done.stdout.startswith("active"):
                waiting.discard(name)
    assert not waiting, f"not active after {LIMIT_S:g} s: {waiting}\n{launched.read_text()[-2000:]}"
