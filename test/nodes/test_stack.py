# SPDX-License-Identifier: Apache-2.0
"""The whole stack as processes: it works, it refuses, it stops, it survives the death of a part."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytest.importorskip("mujoco")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from live_cell import LiveCell
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from vla_ros_msgs.msg import TaskState

from vla_ros.sim.tasks import instruction_for_seed
from vla_ros.types import ControlMode

pytestmark = [pytest.mark.ros, pytest.mark.sim]

STILL_M = 0.002
SEED = 0
INSTRUCTION = instruction_for_seed(SEED)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCell]:
    cell = LiveCell(tmp_path_factory.mktemp("stack"), slow_latency_ms=100.0)
    yield cell
    cell.close()


@pytest.fixture
def cell(live: LiveCell) -> LiveCell:
    live.reset(SEED, INSTRUCTION)
    return live


def test_episode_succeeds_and_authority_is_given_back(cell: LiveCell) -> None:
    result = cell.send(INSTRUCTION).result()
    assert (result.outcome, result.reason) == ("verified", "success")
    assert cell.status.rows_after_expiry == 0
    cell.wait("authority given back", lambda: cell.status.source == "", 2)
    cell.wait("rest", cell.is_at_rest, 3)


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("put the pink cube in the cyan bowl", "pink"),
        ("make coffee", "make"),
        ("", "empty"),
        ("put the red cube in the cyan bowl " * 300, "characters"),
    ],
)
def test_bad_instruction_is_refused_with_a_reason_and_nothing_moves(
    cell: LiveCell, instruction: str, reason: str
) -> None:
    position, accepted = cell.position, cell.status.segments_accepted
    result = cell.send(instruction).result(5)
    assert result.outcome == "failed"
    assert reason in result.reason
    cell.spin(0.4)
    assert np.linalg.norm(cell.position - position) < STILL_M
    assert cell.status.segments_accepted == accepted


def test_second_goal_is_refused_and_the_first_goes_on(cell: LiveCell) -> None:
    first = cell.send(INSTRUCTION)
    cell.wait("motion", cell.is_moving, 8)
    second = cell.send("put the red cube in the purple bowl").result(5)
    assert second.outcome == "failed"
    assert "busy" in second.reason
    assert not first.is_over()
    response = cell.call(cell.cancel_client, Trigger.Request())
    assert response.success
    assert first.result(5).outcome == "stopped"
    cell.wait("rest after the cancellation", cell.is_at_rest, 2)


def test_parts_can_be_stopped_cleaned_up_and_started_again(cell: LiveCell) -> None:
    steps = (
        *(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
        *(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
    )
    for name in ("camera_node", "vla_node", "executor_node"):
        client = cell.node.create_client(ChangeState, f"{name}/change_state")
        for step in steps:
            request = ChangeState.Request(transition=Transition(id=step))
            assert cell.call(client, request).success, (name, step)
    assert cell.send(INSTRUCTION).result().outcome == "verified"


def test_stop_topic_holds_the_arm_until_it_is_resumed(cell: LiveCell) -> None:
    task = cell.send(INSTRUCTION)
    cell.wait("motion", cell.is_moving, 8)
    cell.stop()
    cell.wait("the stop", lambda: cell.mode == ControlMode.STOPPED, 1)
    assert task.result(3).outcome == "stopped"
    cell.wait("rest after the stop", cell.is_at_rest, 2)
    position = cell.position
    refused = cell.send(INSTRUCTION).result(5)
    assert refused.outcome == "failed"
    assert "resume" in refused.reason
    cell.spin(0.5)
    assert np.linalg.norm(cell.position - position) < STILL_M
    cell.resume()


@pytest.mark.parametrize("name", ["vla_node", "executor_node"])
def test_arm_rests_while_a_part_is_dead_and_goes_on_when_it_is_back(
    cell: LiveCell, name: str
) -> None:
    task = cell.send(INSTRUCTION)
    cell.wait("motion", cell.is_moving, 8)
    cell.signal(name, signal.SIGKILL)
    cell.wait(f"rest after {name} was killed", cell.is_at_rest, 4)
    assert not task.is_over()
    before = cell.group.pid(name)
    cell.stack.check()  # starts it again and takes it through its lifecycle
    assert cell.group.pid(name) != before
    assert task.result(25).outcome == "verified"
    assert cell.status.rows_after_expiry == 0


@pytest.mark.parametrize("name", ["vla_node", "executor_node"])
def test_arm_rests_while_a_part_is_frozen_and_goes_on_when_it_thaws(
    cell: LiveCell, name: str
) -> None:
    task = cell.send(INSTRUCTION)
    cell.wait("motion", cell.is_moving, 8)
    cell.signal(name, signal.SIGSTOP)
    try:
        cell.wait(f"rest after {name} was frozen", cell.is_at_rest, 4)
        assert not task.is_over()
    finally:
        cell.signal(name, signal.SIGCONT)
    assert task.result(25).outcome == "verified"
    assert cell.status.rows_after_expiry == 0


def test_task_fails_with_a_reason_when_its_time_is_over(cell: LiveCell) -> None:
    result = cell.send(INSTRUCTION, max_duration_s=1.0).result(4)
    assert result.outcome == "failed"
    assert "1 s" in result.reason
    # Result and topic take ways of their own.
    cell.wait("the end", lambda: cell.seen["task/state"].status == TaskState.ENDED, 2)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("slow_latency_ms", -1.0, "slow_latency_ms out of range Min: 0.0, Max: 20000.0"),
        ("slow_mode", "lazy", "slow_mode must be one of idle, busy, got 'lazy'"),
    ],
)
def test_parameter_out_of_range_is_refused_by_name_and_range(
    live: LiveCell, name: str, value: object, reason: str
) -> None:
    client = live.node.create_client(SetParameters, "vla_node/set_parameters")
    parameter = Parameter(name, value=value).to_parameter_msg()
    response = live.call(client, SetParameters.Request(parameters=[parameter]))
    assert not response.results[0].successful
    assert reason in response.results[0].reason
