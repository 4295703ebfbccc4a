# SPDX-License-Identifier: Apache-2.0
"""executor_node with hooks: terms in a bag, its source of corrections killed, what it refuses."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from strategy_samples import make_observation
from vla_ros_msgs.msg import TaskState
from vla_ros_msgs.srv import StartRecording, StopRecording

import vla_ros_core as core
from vla_ros.bringup import NodeSpec
from vla_ros.chunking.rows import end_ns
from vla_ros.latency.ring import LatentWriter
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.nodes import executor_node
from vla_ros.nodes.processes import ProcessGroup, remove_shared_memory, run_environment, take_domain
from vla_ros.nodes.recorder_node import RecorderNode
from vla_ros.nodes.stack import Stack
from vla_ros.policies.hooks.terms import moved
from vla_ros.recording.hook_terms import RecordedTerms, read_hook_terms
from vla_ros.recording.reader import EpisodeBag
from vla_ros.rotations import exp
from vla_ros.types import ActionChunk, Latent, Observation, RobotState

pytestmark = pytest.mark.ros

ROWS, DT_NS = 16, 33_333_333
HOUR_NS = 3600 * 10**9
OFFSET_M, OFFSET_RAD = (0.012, -0.009, 0.0), (0.0, 0.02, 0.01)  # 15 mm
STEP_M = 1e-3 + 1e-9
# A busy machine must not look like a dead source.
RESIDUAL = (
    *("residual:=true", "strategy:=naive"),
    *("residual_hold_s:=0.2", "residual_max_age_s:=2.0"),
)


class Still:
    """Says the same place at every step; what moves the rows is a hook."""

    name = "still"
    chunk_rows, chunk_dt_ns = ROWS, DT_NS

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        return ActionChunk(
            target0_ns=now_ns,
            dt_ns=DT_NS,
            positions=np.tile([0.4, 0.1, 0.3], (ROWS, 1)),
            quats_xyzw=np.tile(exp(np.array([[0.3, 0.2, -0.1]])), (ROWS, 1)),
            gripper_width_m=np.full(ROWS, 0.04),
        )

    def reset(self) -> None:
        pass


class FreshState:
    """Stands for the control host: a state of now, whenever it is asked."""

    def __init__(self, prefix: str) -> None:
        pass

    def latest(self) -> RobotState:
        now_ns = core.monotonic_ns()
        return replace(make_observation(now_ns).state, tick_ns=now_ns)

    def fresh(self, now_ns: int, max_age_ns: int) -> RobotState:
        return self.latest()


class Cell:
    """executor_node and recorder_node in this process, at work on an endless task."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.node = executor_node.ExecutorNode()
        self.recorder = RecorderNode()
        self.client = rclpy.create_node("test_client")
        self._lease = core.LeaseWriter(prefix)
        self._latents = LatentWriter(f"{prefix}.latent", 1 << 16)
        self._spinning: list[tuple[SingleThreadedExecutor, threading.Thread]] = []
        for node in (self.node, self.recorder):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin, daemon=True)
            thread.start()
            self._spinning.append((executor, thread))
        self.node.trigger_configure()

    def work(self) -> None:
        now_ns = core.monotonic_ns()
        self._lease.write("policy", 1, now_ns + HOUR_NS)
        stamp = LatencyStamp(
            kind=StampKind.LATENT,
            clock_id=core.clock_id(),
            seq=1,
            episode_id=1,
            instruction_id=1,
            capture_oldest_ns=now_ns,
            capture_newest_ns=now_ns,
            publish_ns=now_ns,
            soft_expire_ns=now_ns + HOUR_NS,
            hard_expire_ns=now_ns + HOUR_NS,
        )
        self._latents.write({"nothing": np.zeros(1, np.float32)}, stamp)
        task = TaskState(status=TaskState.RUNNING, episode_id=1, instruction_id=1)
        task.instruction = "stay"
        self.node._on_task(task)
        self.node.trigger_activate()
        self.wait("the first rows", lambda: self.node._counts["chunks"] > 0)

    def wait(self, what: str, condition: Callable[[], bool], limit_s: float = 30.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}, in vain"
            rclpy.spin_once(self.client, timeout_sec=0.02)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(kind, name)
        self.wait(name, client.service_is_ready)
        future = client.call_async(request)
        self.wait(f"the answer of {name}", future.done)
        assert future.result().success, future.result().message
        return future.result()

    def record(self) -> None:
        self.recorder.trigger_configure()
        self.recorder.trigger_activate()
        self.recorder.config = replace(self.recorder.config, expected_topics="hook_terms")
        request = StartRecording.Request(episode_id=1, instruction="stay")
        request.directory = str(self.folder)
        self.call(StartRecording, "recorder_node/start", request)

    def bag(self) -> EpisodeBag:
        stopped = self.call(
            StopRecording, "recorder_node/stop", StopRecording.Request(outcome="success")
        )
        return EpisodeBag(Path(stopped.path))

    def applied_m(self) -> float:
        return float(self.node._hooks.diagnostics()["residual_mm"]) * 1e-3

    def close(self) -> None:
        # As in a process of its own: nothing is called back once a node is finished.
        for executor, thread in self._spinning:
            executor.shutdown(timeout_sec=2)
            thread.join(timeout=5)
            assert not thread.is_alive()
        self.node.finish()
        self.recorder.finish()
        # Its services must not stand for those of a later test in the same domain.
        for node in (self.node, self.recorder, self.client):
            node.destroy_node()
        self._lease.close()


@contextmanager
def running(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: tuple[str, ...]
) -> Iterator[Cell]:
    monkeypatch.setattr(executor_node, "make_fast_policy", lambda *_: Still())
    monkeypatch.setattr(executor_node, "StateReader", FreshState)
    domain, lock = take_domain()
    for name, value in run_environment(domain).items():
        monkeypatch.setenv(name, value)
    prefix = f"vla_ros.d{domain}.hooks"
    remove_shared_memory(prefix)
    given = ("policy:=classical", f"shm_prefix:={prefix}", *parameters)
    arguments = [word for p in given for word in ("-p", f"executor_node:{p}")]
    rclpy.init(
        args=["--ros-args", *arguments],
        domain_id=domain,
        signal_handler_options=rclpy.SignalHandlerOptions.NO,
    )
    cell = Cell(folder, prefix)
    try:
        yield cell
    finally:
        cell.close()
        rclpy.try_shutdown()
        remove_shared_memory(prefix)
        lock.close()


@contextmanager
def residual_process(cell: Cell) -> Iterator[int]:
    """residual_node as a process of its own; gives its number."""
    parameters = {"offset_m": OFFSET_M, "offset_rad": OFFSET_RAD}
    spec = NodeSpec(name="residual_node", parameters=parameters, nice=0)
    group = ProcessGroup([spec], {}, cell.folder / "logs")
    stack = Stack(group, cell.client)
    try:
        stack.start()
        yield group.pid("residual_node")
    finally:
        stack.stop()


def same(a: ActionChunk, b: ActionChunk) -> bool:
    return (
        np.array_equal(a.positions, b.positions)
        and np.array_equal(a.quats_xyzw, b.quats_xyzw)
        and np.array_equal(a.gripper_width_m, b.gripper_width_m)
    )


def committed_chunks(bag: EpisodeBag) -> dict[int, np.ndarray]:
    """Rows (n, 8) of every ``action_chunk`` by the stamp of its header [ns]."""
    found = {}
    for _, _, m in bag.messages(["action_chunk"]):
        poses = [(p.position, p.orientation) for p in m.poses]
        numbers = [[p.x, p.y, p.z, q.x, q.y, q.z, q.w] for p, q in poses]
        rows = np.column_stack([numbers, m.gripper_width_m])
        found[m.header.stamp.sec * 10**9 + m.header.stamp.nanosec] = rows
    return found


def test_without_hooks_the_node_has_neither_wrapper_nor_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, ()) as cell:
        cell.work()
        assert cell.node._hooks is None
        assert isinstance(cell.node._policy, Still)
        names = {name for name, _ in cell.node.get_topic_names_and_types()}
        assert "/action_chunk" in names
        assert not names & {"/residual", "/hook_terms"}


def test_source_killed_the_base_goes_on_and_the_bag_says_where_every_row_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, RESIDUAL) as cell:
        cell.work()
        with residual_process(cell) as pid:
            cell.record()
            cell.wait("the residual", lambda: cell.applied_m() > 0.012)
            starved = cell.node._counts["starved"]
            killed_ns = core.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            cell.wait("the end of the residual", lambda: cell.applied_m() < 5e-4)
            assert cell.node._counts["starved"] == starved
            bag = cell.bag()
    terms, chunks = read_hook_terms(bag), committed_chunks(bag)
    assert "/residual" in bag.topics
    # Every chunk has its terms: the ends of the recording may come between the two.
    assert len({t.stamp_ns for t in terms} ^ set(chunks)) <= 2
    for t in terms:
        summed = moved(t.rows.base, t.rows.steering + t.rows.residual + t.rows.limit)
        assert same(summed, t.command)
        if t.stamp_ns in chunks:  # and nothing else went to the control host
            command = np.column_stack([summed.positions, summed.quats_xyzw, summed.gripper_width_m])
            np.testing.assert_array_equal(chunks[t.stamp_ns], command)
    check_fading(terms, killed_ns)


def check_fading(terms: list[RecordedTerms], killed_ns: int) -> None:
    """Rows without a gap, no step above 1 mm, and the base alone in the end."""
    positions = np.array([t.command.positions[0] for t in terms])
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() <= STEP_M
    for earlier, later in itertools.pairwise(terms):
        assert later.rows.base.target0_ns <= end_ns(earlier.rows.base)
        assert same(later.rows.base, earlier.rows.base)  # the policy says what it always says
    after = [t for t in terms if t.rows.base.target0_ns > killed_ns]
    sizes = np.linalg.norm([t.rows.residual[0, :3] for t in after], axis=1)
    assert sizes[0] > 0.005
    assert sizes[-1] < 5e-4
    assert (np.diff(sizes[5:]) <= 0.0).all()  # 5: what was on its way when the source died


def test_corrections_that_cannot_be_used_are_refused_and_diagnostics_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, RESIDUAL) as cell:
        cell.work()
        publisher = cell.client.create_publisher(TwistStamped, "residual", 1)
        message = TwistStamped()
        message.header.stamp = cell.client.get_clock().now().to_msg()
        message.header.frame_id = "fr3_hand"
        message.twist.linear.x = 0.01

        def is_said() -> bool:
            publisher.publish(message)
            return "residual refused: frame" in cell.node.health().values

        cell.wait("the refusal", is_said)
        health = cell.node.health()
        assert "no fresh correction on /residual" in health.message
        assert "expected 'fr3_link0', got 'fr3_hand'" in health.message
        message.header.frame_id, message.twist.linear.x = "fr3_link0", 10.0

        def is_fresh_and_refused() -> bool:
            message.header.stamp = cell.client.get_clock().now().to_msg()
            return is_said() and "residual refused: too large" in cell.node.health().values

        cell.wait("the next refusal", is_fresh_and_refused)
        assert cell.applied_m() == 0.0
        message.twist.linear.x = 0.005

        def is_taken() -> bool:
            message.header.stamp = cell.client.get_clock().now().to_msg()
            publisher.publish(message)
            return cell.applied_m() > 0.004

        cell.wait("the correction", is_taken)
