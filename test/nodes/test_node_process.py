# SPDX-License-Identifier: Apache-2.0
"""One process of a run: its arguments, its signals, its end with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

pytestmark = pytest.mark.ros

LIMIT_S = 10.0
CLASSICAL = ("policy:=classical",)  # needs no weights
PARENT_PROGRAM = """
import sys, time
from pathlib import Path
from vla_ros.bringup import NodeSpec
from vla_ros.nodes.processes import ProcessGroup
classical = {"policy": "classical"}
specs = [NodeSpec(name=name, parameters=classical) for name in ("task_node", "executor_node")]
group = ProcessGroup(specs, {}, Path(sys.argv[1]))
group.start()
time.sleep(float(sys.argv[2]))
print(group.pid("task_node"), group.pid("executor_node"), flush=True)
time.sleep(60)
"""


def start_node(name: str, *parameters: str) -> subprocess.Popen[str]:
    arguments = [argument for p in parameters for argument in ("-p", p)]
    return subprocess.Popen(
        [sys.executable, "-m", "vla_ros.nodes", name, "--ros-args", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait(what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}, in vain"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def is_in_domain(pid: int) -> bool:
    """Whether DDS has opened its sockets: the node is up and handles signals."""
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return sum("socket:" in link for link in links) >= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_node_ends_in_order_when_asked_to(number: signal.Signals) -> None:
    process = start_node("executor_node", "policy:=classical")
    wait("the node to join its domain", lambda: is_in_domain(process.pid))
    process.send_signal(number)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("name", "parameter", "expected"),
    [
        ("executor_node", "rate_hz:=900.0", "rate_hz must be 1.0 to 200.0 Hz, got 900.0 Hz"),
        ("executor_node", "policy:=magic", "policy must be one of pick-place, classical, onnx:<"),
        ("vla_node", "busy_threads:=0", "busy_threads must be 1 to 64, got 0"),
        ("supervisor_node", "rate_hz:=fast", "rate_hz must be float, got str 'fast'"),
    ],
)
def test_bad_parameter_ends_the_node_with_one_line(
    name: str, parameter: str, expected: str
) -> None:
    other = () if parameter.startswith("policy") or name == "supervisor_node" else CLASSICAL
    process = start_node(name, *other, parameter)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2, output
    assert expected in output
    assert len(output.strip().splitlines()) == 1


@pytest.mark.parametrize("head_start_s", [0.0, 2.0])
def test_nodes_end_when_their_parent_is_killed(tmp_path: Path, head_start_s: float) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_PROGRAM, str(tmp_path), str(head_start_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    assert len(pids) == 2
    wait("the nodes to end", lambda: not any(is_running(pid) for pid in pids))
