# SPDX-License-Identifier: Apache-2.0
"""Says whether a row was executed that must not have been. Shares no code with what it judges.

Every row of every chunk has a gripper width of its own. The gripper is a zero-order hold without
fade, so the width that the control host asks for names the row it executes, whatever it says about
segments. Widths, modes and the reference of every tick are compared with what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

TRACK, BRAKE = 1, 2
SHORTEST_REST_NS = 5_000_000


@dataclass(frozen=True)
class Origin:
    """What the stamp of a chunk says, by the code of its first row."""

    row_codes: tuple[float, ...]
    usable_until_ns: int
    episode: int
    instruction: int


@dataclass(frozen=True)
class Written:
    """A segment as it was handed to the control host."""

    at_ns: int
    target_ns: np.ndarray
    valid_until_ns: int
    epoch: int
    instruction: int
    is_rogue: bool = False  # not by the executor, which can answer for its own only
    codes: tuple[float, ...] = ()  # of its rows: joined from two chunks, they have other places


@dataclass(frozen=True)
class LeaseEntry:
    at_ns: int
    source: str
    epoch: int
    expiry_ns: int
    instruction: int


@dataclass(frozen=True)
class TaskChange:
    """The executor learned of another episode or instruction, knowing how fast the arm was."""

    at_ns: int
    old_episode: int
    old_instruction: int


@dataclass
class Tape:
    """Everything that went in, and the ticks that came out."""

    tick_ns_period: int
    brake_m_s2: float
    row_ns: int
    origins: dict[float, tuple[Origin, int]] = field(default_factory=dict)
    written: dict[int, Written] = field(default_factory=dict)
    leases: list[LeaseEntry] = field(default_factory=list)
    changes: list[TaskChange] = field(default_factory=list)
    stopped: list[tuple[int, bool]] = field(default_factory=list)
    columns: list[dict] = field(default_factory=list)
    old_instruction_ticks: int = 0  # within what is allowed: shows that the rule was put to a test

    def column(self, name: str) -> np.ndarray:
        return np.concatenate([np.asarray(c[name]) for c in self.columns])


def violations(tape: Tape) -> list[str]:
    """Return every rule that was broken, in words."""
    found: list[str] = []
    ticks, modes = tape.column("tick_ns"), tape.column("mode")
    seqs, grippers = tape.column("segment_seq"), tape.column("gripper_target_m")
    positions = tape.column("ref_position").reshape(-1, 3)
    # Whatever time passes between two ticks, the reference moves on by one period.
    speeds = np.zeros(len(ticks))
    speeds[1:] = np.linalg.norm(np.diff(positions, axis=0), axis=1) / (1e-9 * tape.tick_ns_period)
    fastest = np.maximum(speeds, tape.column("ref_speed_m_s"))
    _check_braking(ticks, modes, speeds, found)
    for i, tick in enumerate(ticks.tolist()):
        if modes[i] != TRACK:
            if i and grippers[i] != grippers[i - 1]:
                found.append(f"{tick}: another row than before in mode {modes[i]}")
            continue
        if grippers[i] not in tape.origins or int(seqs[i]) not in tape.written:
            found.append(f"{tick}: tracks a row that nobody wrote")
            continue
        origin, row = tape.origins[grippers[i]]
        written = tape.written[int(seqs[i])]
        if grippers[i] in written.codes:
            row = written.codes.index(grippers[i])
        _check_row(tape, tick, origin, row, written, found)
        _check_task(tape, tick, origin, tape.written[int(seqs[i])], ticks, fastest, found)
    return found


def _check_braking(ticks, modes, speeds, found) -> None:
    """Whoever brakes is slower at every tick: no row leads."""
    braking = (modes[2:] == BRAKE) & (modes[1:-1] == BRAKE) & (modes[:-2] == BRAKE)
    for i in np.flatnonzero(braking & (speeds[2:] > speeds[1:-1] + 1e-6)) + 2:
        found.append(f"{ticks[i]}: speeds up while braking")


def _check_row(tape, tick, origin, row, segment, found) -> None:
    if tick > min(origin.usable_until_ns, segment.valid_until_ns):
        found.append(f"{tick}: row executed after hard expiry")
    if row > 0 and segment.target_ns[row] > tick:
        found.append(f"{tick}: row executed before its time")
    if segment.target_ns[-1] < tick:
        found.append(f"{tick}: row executed after the last one of its segment")
    if segment.instruction != origin.instruction:
        found.append(f"{tick}: segment and row disagree")
    lease = _lease_at(tape, tick)
    if lease is None or lease.source != "policy" or lease.expiry_ns <= tick:
        found.append(f"{tick}: row executed without authority")
    elif lease.epoch != segment.epoch:
        found.append(f"{tick}: row of an old epoch executed")
    if _is_stopped(tape, tick):
        found.append(f"{tick}: row executed after a stop")


def _check_task(tape, tick, origin, segment, ticks, fastest, found) -> None:
    changed_ns = _instruction_left_ns(tape, tick, origin.instruction)
    if changed_ns is not None:
        tape.old_instruction_ticks += 1
        if segment.at_ns > changed_ns:
            found.append(f"{tick}: segment of an old instruction taken over")
        if tick > changed_ns + _braking_ns(tape, changed_ns, ticks, fastest):
            found.append(f"{tick}: row of an old instruction beyond braking time")
    for change in tape.changes:
        is_old = (
            origin.episode == change.old_episode and origin.instruction == change.old_instruction
        )
        if not is_old or change.at_ns > tick or segment.is_rogue:
            continue
        if _instruction_left_ns(tape, change.at_ns, change.old_instruction) is not None:
            continue  # the control host ends these rows itself, as above, and takes no others
        seen = (ticks >= change.at_ns) & (ticks <= change.at_ns + SHORTEST_REST_NS)
        if not seen.any():
            continue  # the control thread was kept from running: what was left expired unseen
        grace = max(_braking_ns(tape, change.at_ns, ticks, fastest), SHORTEST_REST_NS)
        if tick > change.at_ns + grace + 2 * tape.tick_ns_period:
            found.append(f"{tick}: row of an old task beyond what the executor left of it")


def _braking_ns(tape: Tape, at_ns: int, ticks: np.ndarray, fastest: np.ndarray) -> int:
    """Return min(braking time, three rows) for the speed around an instant, and two ticks."""
    around = np.flatnonzero(np.abs(ticks - at_ns) <= 3 * tape.tick_ns_period)
    speed = float(fastest[around].max()) if around.size else 0.0
    braking = min(round(1e9 * speed / tape.brake_m_s2), 3 * tape.row_ns)
    return braking + 2 * tape.tick_ns_period


def _lease_at(tape: Tape, tick: int) -> LeaseEntry | None:
    before = [lease for lease in tape.leases if lease.at_ns <= tick]
    return before[-1] if before else None


def _instruction_left_ns(tape: Tape, tick: int, instruction: int) -> int | None:
    """Return since when the leases name another instruction than this; None if they do not."""
    since = None
    for lease in tape.leases:
        if lease.at_ns > tick:
            break
        if lease.instruction in (0, instruction):
            since = None
        elif since is None:
            since = lease.at_ns
    return since


def _is_stopped(tape: Tape, tick: int) -> bool:
    state = False
    for at_ns, stopped in tape.stopped:
        if at_ns <= tick:
            state = stopped
    return state
