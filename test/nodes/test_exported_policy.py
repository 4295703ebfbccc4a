# SPDX-License-Identifier: Apache-2.0
"""The nodes take an exported policy by its folder, and refuse one that is not in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytestmark = pytest.mark.ros

UNIT = Path(__file__).parents[1] / "unit"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(UNIT)!r})
from pathlib import Path
from onnx_samples import write_split
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn as Result
from vla_ros.clock import NS_PER_S
from vla_ros.errors import ConfigError, StaleDataError
from vla_ros.nodes.executor_node import ExecutorNode
from vla_ros.nodes.policy_runner import latent_ring_bytes
from vla_ros.nodes.task_node import TaskNode
from vla_ros.nodes.vla_node import SlowNode
from vla_ros.task import FAILED, STOPPED, Outcome

folder = Path(sys.argv[1])
write_split(folder)
rclpy.init(args=["--ros-args", "-p", f"policy:=onnx:{{folder}}"])
slow, fast, task = SlowNode(), ExecutorNode(), TaskNode()
for node in (slow, fast, task):
    assert node.trigger_configure() == Result.SUCCESS, node.get_name()
assert slow._cameras == ("scene", "wrist")
assert fast._executor.capabilities.has_age_input
context = fast._executor.context(1, 1)
assert context.schema_hash == slow._contract.latent_schema_hash != 0
assert context.model_hash == slow._contract.model_hash != 0
values = fast.health().values
assert "cpu" in values["fast.runs_on"], values
assert "'green' is not understood" in task._why_not("put the green cube")
assert task._why_not("put the red cube") == ""
slow._complete_ns = 1
assert slow._fresh_frames(NS_PER_S) is None
try:
    slow._fresh_frames(3 * NS_PER_S)
    sys.exit("nobody misses the cameras")
except StaleDataError as error:
    task._slow.last_error = str(error)
failed = task._with_cause(Outcome(FAILED, "not done within 40 s"), None)
assert failed.reason.startswith("not done within 40 s; slow policy: no image of scene, wrist")
assert task._with_cause(Outcome(STOPPED, "stop requested"), None).reason == "stop requested"
for node in (slow, fast, task):
    assert node.trigger_cleanup() == Result.SUCCESS
slow._policy.latent_bytes = 5 << 20
assert latent_ring_bytes(slow._policy) == (5 << 20) + (1 << 16)
slow._policy.latent_bytes = 32 << 20
try:
    latent_ring_bytes(slow._policy)
    sys.exit("a latent that fits into no ring was taken")
except ConfigError as error:
    assert "fit into a ring" in str(error)
print("configured")
(folder / "fast.onnx").write_bytes(b"changed")
assert fast.trigger_configure() != Result.SUCCESS
assert slow.trigger_configure() == Result.SUCCESS
slow.trigger_cleanup()
print("refused")
"""


CACHED = f"""
import sys
sys.path.insert(0, {str(UNIT)!r})
from pathlib import Path
from cached_samples import write_cached
from onnx_samples import observation
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn as Result
from vla_ros.nodes.vla_node import SlowNode

folder = Path(sys.argv[1])
write_cached(folder)
options = ["-p", f"policy:=onnx:{{folder}}", "-p", "policy_cache:=true"]
rclpy.init(args=["--ros-args", *options])
slow = SlowNode()
assert slow.trigger_configure() == Result.SUCCESS
assert slow._cameras == ("scene", "wrist")
assert slow._contract.model_hash != 0
for _ in range(4):
    slow._policy.encode(observation())
values = slow.health().values
assert values["feature_reuse_ratio"] == values["feature_hit_rate"] == 0.75, values
assert "cpu" in values["cells.runs_on"], values
assert slow._policy.last_timing.compute_ns > 0
slow.trigger_cleanup()
print("cached")
"""


HANGING = f"""
import sys, threading
sys.path.insert(0, {str(UNIT)!r})
from pathlib import Path
from onnx_samples import write_split
import rclpy
from vla_ros.nodes.executor_node import ExecutorNode
from vla_ros.policies.onnx import session

class Hanging:
    def __init__(self, *_):
        threading.Event().wait()

session.OrtBackend = Hanging
folder = Path(sys.argv[1])
write_split(folder)
options = ["-p", f"policy:=onnx:{{folder}}", "-p", "policy_load_limit_s:=0.1"]
rclpy.init(args=["--ros-args", *options])
ExecutorNode().trigger_configure()
print("configured")
"""


def test_model_whose_session_never_comes_up_ends_its_node(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path / "policy")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 70, text
    assert "making a session of tiny/fast does not end" in text
    assert "configured" not in done.stdout


def test_slow_node_runs_an_export_with_its_cache_and_says_how_much_it_reuses(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CACHED, str(tmp_path / "policy")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "cached" in done.stdout, done.stdout + done.stderr


def test_nodes_take_an_export_and_refuse_a_changed_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "policy")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    text = done.stdout + done.stderr
    assert "configured" in done.stdout, text
    assert "refused" in done.stdout, text
    assert "cannot set up: " in text
    assert "fast.onnx (7 bytes) is not the file of the manifest" in text
