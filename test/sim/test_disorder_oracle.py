# SPDX-License-Identifier: Apache-2.0
"""The oracle sees what it must see: a faultless run, told otherwise, breaks each of its rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from disorder import MS, RATE_HZ, World
from disorder_oracle import LeaseEntry, TaskChange, violations
from robot_rig import RobotRig

from vla_ros.embodiment.robot import load_robot

pytestmark = pytest.mark.sim
PRODUCE, PASS_TIME, CHANGE_INSTRUCTION = 4, 0, 10


@pytest.fixture
def tape(tmp_path):
    """Two chunks, an instruction between them, everything in order."""
    rig = RobotRig(load_robot("fr3"), tmp_path, RATE_HZ)
    world = World(rig)
    moving = (PRODUCE, 2, 5, 90)  # in time, valid for 2 s
    operations = [moving, (PASS_TIME, 11, 0, 0)]
    operations += [(CHANGE_INSTRUCTION, 2, 0, 0), moving, (PASS_TIME, 11, 0, 0)]
    assert world.run(operations, is_fast=False) == []
    rig.close()
    tracking = np.flatnonzero(world.tape.column("mode") == 1)
    assert len(tracking) > 100
    return world.tape


def tracked(tape, k=50) -> int:
    """Return the time of a tick that executes a row, not one of the first."""
    ticks = tape.column("tick_ns")[tape.column("mode") == 1]
    return int(ticks[k])


def rules(tape) -> set[str]:
    return {text.split(": ", 1)[1] for text in violations(tape)}


def test_row_after_hard_expiry_is_seen(tape):
    at_ns = tracked(tape)
    for code, (origin, row) in tape.origins.items():
        tape.origins[code] = (dataclasses.replace(origin, usable_until_ns=at_ns - 1), row)
    assert rules(tape) == {"row executed after hard expiry"}


def test_row_after_the_end_of_its_segment_is_seen(tape):
    at_ns = tracked(tape)
    for seq, segment in tape.written.items():
        tape.written[seq] = dataclasses.replace(segment, valid_until_ns=at_ns - 1)
    assert rules(tape) == {"row executed after hard expiry"}


def test_row_before_its_time_is_seen(tape):
    for seq, segment in tape.written.items():
        tape.written[seq] = dataclasses.replace(segment, target_ns=segment.target_ns + 400 * MS)
    assert "row executed before its time" in rules(tape)


def test_row_of_an_old_epoch_is_seen(tape):
    at_ns = tracked(tape)
    tape.leases = [dataclasses.replace(x, epoch=x.epoch + (x.at_ns >= at_ns)) for x in tape.leases]
    assert rules(tape) == {"row of an old epoch executed"}


@pytest.mark.parametrize("edit", [{"source": "teleop"}, {"expiry_ns": 1}])
def test_row_without_authority_is_seen(tape, edit):
    tape.leases = [dataclasses.replace(x, **edit) for x in tape.leases]
    assert rules(tape) == {"row executed without authority"}


def test_row_of_an_old_instruction_is_seen(tape):
    at_ns = tracked(tape, 5)
    tape.leases = [
        dataclasses.replace(x, instruction=x.instruction + 9 * (x.at_ns >= at_ns))
        for x in tape.leases
    ]
    assert "row of an old instruction beyond braking time" in rules(tape)


def test_segment_of_an_old_instruction_is_seen(tape):
    first = min(tape.leases, key=lambda x: x.at_ns)
    tape.leases.insert(0, LeaseEntry(first.at_ns, "policy", first.epoch, first.expiry_ns, 1))
    tape.leases = [dataclasses.replace(x, instruction=1) for x in tape.leases]
    assert "segment of an old instruction taken over" in rules(tape)


def test_row_of_an_old_task_is_seen(tape):
    at_ns = tracked(tape, 5)
    origin = next(iter(tape.origins.values()))[0]
    tape.changes.append(TaskChange(at_ns, origin.episode, origin.instruction))
    assert rules(tape) == {"row of an old task beyond what the executor left of it"}


def test_row_after_a_stop_is_seen(tape):
    tape.stopped.append((tracked(tape), True))
    assert rules(tape) == {"row executed after a stop"}


def test_row_that_nobody_wrote_is_seen(tape):
    tape.origins.clear()
    assert rules(tape) == {"tracks a row that nobody wrote"}


def test_row_executed_while_braking_is_seen(tape):
    modes = tape.column("mode")
    at = int(np.flatnonzero(modes == 1)[20])

    def brake(values):
        values[at : at + 80] = 2
        return values

    for name in ("tick_ns", "segment_seq", "gripper_target_m", "ref_position", "ref_speed_m_s"):
        whole = np.concatenate([np.asarray(c[name]) for c in tape.columns])
        tape.columns[-1] = {**tape.columns[-1], name: whole}
    tape.columns[-1]["mode"] = brake(modes)
    tape.columns = tape.columns[-1:]
    assert {x.split(" in mode")[0] for x in rules(tape)} >= {"another row than before"}
