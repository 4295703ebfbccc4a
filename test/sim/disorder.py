# SPDX-License-Identifier: Apache-2.0
"""A world in which everything arrives late, twice, in the wrong order or not at all.

Real admission, executor and control host in virtual time. A sequence is a list of operations, each
four small integers, so that Hypothesis and a plain random generator can both make them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from disorder_oracle import LeaseEntry, Origin, Tape, TaskChange, Written, violations
from robot_rig import RobotRig

import vla_ros_core as core
from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat, StampedChunk
from vla_ros.chunking.commit import BrakeLimits, ChunkCommitter
from vla_ros.chunking.executor import ChunkExecutor
from vla_ros.control.segments import write_segment
from vla_ros.control.state import to_robot_state
from vla_ros.latency.admission import BufferContext
from vla_ros.latency.buffer import LatentBuffer
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import ActionChunk, Latent, Segment

MS = 1_000_000
ROW_NS = 33 * MS
ROWS = 16
SLICE_NS = 10 * MS
LEASE_NS = 200 * MS
RATE_HZ = 500.0
Operation = tuple[int, int, int, int]

# Those whose rows can be told from each other afterwards: none that averages two chunks.
STRATEGIES = ("timed", "state_projection", "naive")
DELAYS_MS = (0, 0, 10, 30, 60, 120, 250, 500, 900)
VALID_MS = (60, 150, 300, 500, 900, 2000)
SOFT = (0.0, 0.3, 0.6, 1.2)
SPOILS: tuple[Callable[[LatencyStamp], dict], ...] = (
    lambda s: {"epoch": s.epoch - 1},
    lambda s: {"episode_id": s.episode_id - 1},
    lambda s: {"instruction_id": s.instruction_id - 1},
    lambda s: {"hard_expire_ns": s.publish_ns - 5 * MS},
    lambda s: {"hard_expire_ns": 0},
    lambda s: {"soft_expire_ns": s.hard_expire_ns + 300 * MS},
    lambda s: {"soft_expire_ns": s.capture_oldest_ns - 400 * MS},
    lambda s: {"publish_ns": s.capture_oldest_ns - 300 * MS},
    lambda s: {"capture_oldest_ns": s.capture_oldest_ns + 800 * MS},
    lambda _: {"clock_err_ns": 25 * MS},
    lambda _: {"clock_err_ns": 10**12},
    lambda _: {"model_hash": 9},
    lambda _: {"dt_ns": ROW_NS + 1},
    lambda s: {"infer_start_ns": s.publish_ns, "infer_end_ns": s.capture_oldest_ns},
)


class CodedFast:
    """A fast policy that goes straight on; its rows carry codes."""

    name = "coded"
    chunk_rows = ROWS
    chunk_dt_ns = ROW_NS

    def __init__(self, world: World) -> None:
        self._world = world

    def reset(self) -> None:
        pass

    def decode(self, latent, observation, now_ns) -> ActionChunk:
        chunk = self._world.rows(now_ns, latent.stamp.seq, ROWS)
        self._world.remember(chunk, latent.stamp)
        return chunk


class World:
    """One control host for all sequences; time goes on from one to the next."""

    def __init__(self, rig: RobotRig) -> None:
        self.rig, self.host = rig, rig.host
        self.reader = core.StateReader(rig.prefix)
        self.period_ns = round(1e9 / rig.config.rate_hz)
        self.epoch = self.episode = self.instruction = 10
        self.home = np.array(self.host.state()["position"])
        self.counts: Counter[str] = Counter()

    # --- one sequence ---------------------------------------------------------------------------

    def run(
        self, operations: Sequence[Operation], *, is_fast: bool, strategy: str = STRATEGIES[0]
    ) -> list[str]:
        """Play a sequence and return what was broken."""
        self._begin(is_fast, strategy)
        for operation in operations:
            self._apply(operation)
        self.advance(30)
        self.counts["sequences"] += 1
        self.counts["ticks"] += len(self.tape.column("tick_ns"))
        self.counts["ticks that executed a row"] += int((self.tape.column("mode") == 1).sum())
        for counts in (
            self.committer.admission.counts,
            self.executor.committer.admission.counts,
            self.buffer.counts,
        ):
            self.counts.update({f"arrived: {a.value}": n for a, n in counts.items()})
        found = violations(self.tape)
        self.counts["ticks on rows of an old instruction"] += self.tape.old_instruction_ticks
        counters = self.host.counters()
        found += [f"{name}: {counters[name]}" for name in ("rows_after_expiry",) if counters[name]]
        return found

    def _begin(self, is_fast: bool, strategy: str) -> None:
        self.is_fast = is_fast
        self.numbers = itertools.count(1)  # anew, so that a sequence does the same at any time
        self.tape = Tape(self.period_ns, self.rig.config.brake_m_s2, ROW_NS)
        self.head = self.reader.head
        self.pending: list[tuple[int, int, Callable[[], None]]] = []
        self.skew_ns, self.frozen_until_ns, self.next_step_ns = 0, 0, 0
        self.is_renewing, self.names_instruction, self.source = True, True, "policy"
        self.epoch += 1
        self.episode += 1
        self.instruction += 1
        limits = BrakeLimits(
            brake_m_s2=self.rig.config.brake_m_s2, brake_rad_s2=self.rig.config.brake_rad_s2
        )
        self.buffer = LatentBuffer()
        self.executor = ChunkExecutor(CodedFast(self), self.buffer, limits)
        self.executor.use(strategy)
        form = ChunkFormat(dt_ns=ROW_NS, horizon=ROWS)
        self.committer = ChunkCommitter(ChunkAdmission(form), limits=limits)
        self.seen_task: tuple[int, int] | None = None
        self.old_chunks: list[StampedChunk] = []
        self.host.resume()
        self.rig.plant.request_reset(list(self.rig.robot.home_q))
        self._write_lease()
        self._learn_task()
        self.advance(1)

    @property
    def now_ns(self) -> int:
        return self.rig.now_ns

    def clock_ns(self) -> int:
        """What the Python side takes for the time."""
        return self.now_ns + self.skew_ns

    # --- time -----------------------------------------------------------------------------------

    def advance(self, slices: int) -> None:
        for _ in range(slices):
            if self.is_renewing:
                self._write_lease()
            self._run_pending()
            if self.is_fast and self.now_ns >= max(self.next_step_ns, self.frozen_until_ns):
                self.next_step_ns = self.now_ns + ROW_NS
                state = to_robot_state(self.host.state())
                result = self.executor.step(self.clock_ns(), state, "go", self.epoch)
                self._write(result.segment)
            self.rig.now_ns = self.host.run_ticks(self.now_ns, SLICE_NS // self.period_ns)
        columns = self.reader.since(self.head)
        self.head = columns["head"]
        self.tape.columns.append(columns)

    def _run_pending(self) -> None:
        if self.now_ns < self.frozen_until_ns:
            return
        due = sorted(p for p in self.pending if p[0] <= self.now_ns)
        self.pending = [p for p in self.pending if p[0] > self.now_ns]
        for _, _, act in due:
            act()

    def _later(self, delay_ms: int, act: Callable[[], None]) -> None:
        self.pending.append((self.now_ns + delay_ms * MS, next(self.numbers), act))

    # --- operations -----------------------------------------------------------------------------

    def _apply(self, operation: Operation) -> None:
        kind, a, b, c = operation
        kinds = (
            *(self._pass_time,) * 4,
            *(self._produce,) * 6,
            self._change_instruction,
            self._change_lease,
            self._jump_clock,
            self._change_episode,
            self._write_past_the_executor,
            self._freeze_or_stop,
        )
        kinds[kind % len(kinds)](a, b, c)

    def _pass_time(self, a: int, b: int, c: int) -> None:
        self.advance(1 + a % 12)

    def _produce(self, a: int, b: int, c: int) -> None:
        stamp = self._stamp(a, b)
        if self.is_fast:
            latent = Latent(tensors={}, stamp=stamp.replace(kind=StampKind.LATENT, publish_ns=0))

            def deliver() -> None:
                self.buffer.offer(latent, self.clock_ns())
        else:
            chunk = self.rows(stamp.capture_oldest_ns, a + b + c, 4 + c % (ROWS - 3))
            if b % 23 == 22:
                chunk.positions[c % chunk.horizon] = np.nan
            if b % 29 == 28:
                chunk.quats_xyzw[c % chunk.horizon] *= 1.1
            stamped = StampedChunk(chunk=chunk, stamp=stamp)
            self.remember(chunk, stamp)
            self.old_chunks.append(stamped)

            def deliver() -> None:
                self._write(self.committer.offer(stamped, self.clock_ns()).segment)

        if c % 11 == 10:
            return  # lost
        delay_ms = DELAYS_MS[c % len(DELAYS_MS)]
        self._later(delay_ms, deliver)
        if c % 5 == 4:
            self._later(delay_ms + 20 * (a % 7), deliver)

    def _change_instruction(self, a: int, b: int, c: int) -> None:
        self.instruction += 1
        self.names_instruction = c % 4 != 3
        if a % 3 != 1:
            self._write_lease()
        if a % 3 != 0:
            self._learn_task()
        else:
            self._later(10 * (b % 8), self._learn_task)
        self.advance(1)

    def _change_lease(self, a: int, b: int, c: int) -> None:
        if a % 4 == 0:
            self.is_renewing = False
        elif a % 4 == 1:
            self.is_renewing = True
        else:
            self.epoch += 1
            self.source = "teleop" if a % 4 == 2 else "policy"
            self._write_lease()
            if b % 2:
                self._learn_task()
            else:
                self._later(10 * (b % 9), self._learn_task)
        self.advance(1)

    def _jump_clock(self, a: int, b: int, c: int) -> None:
        self.skew_ns = 0 if a % 3 == 0 else (b - 128) * 4 * MS

    def _change_episode(self, a: int, b: int, c: int) -> None:
        self.episode += 1
        if a % 2:
            self.epoch += 1
            self._write_lease()
        self._change_instruction(b, c, a)

    def _write_past_the_executor(self, a: int, b: int, c: int) -> None:
        """What a faulty or hostile writer of the ring would do: the control host is alone."""
        stamp = self._stamp(a, b)
        chunk = self.rows(stamp.capture_oldest_ns, a + c, ROWS)
        if self.old_chunks and c % 2:
            old = self.old_chunks[a % len(self.old_chunks)]
            chunk, stamp = old.chunk, old.stamp
            if not (np.isfinite(chunk.positions).all() and stamp.horizon in (0, chunk.horizon)):
                return
        self.remember(chunk, stamp)
        until_ns = stamp.publish_ns + (b - 60) * 10 * MS
        self._write(
            Segment(
                target_ns=chunk.target0_ns + ROW_NS * np.arange(chunk.horizon, dtype=np.int64),
                positions=chunk.positions,
                quats_xyzw=chunk.quats_xyzw,
                twists_base=np.zeros((chunk.horizon, 6)),
                gripper_width_m=chunk.gripper_width_m,
                valid_until_ns=until_ns,
                epoch=stamp.epoch,
                stamp=stamp,
            ),
            is_rogue=True,
        )

    def _freeze_or_stop(self, a: int, b: int, c: int) -> None:
        if a % 3 == 0:
            self.frozen_until_ns = self.now_ns + 20 * (b % 16) * MS
        elif a % 3 == 1:
            self.host.stop()
            self.tape.stopped.append((self.now_ns, True))
            self.advance(1 + b % 10)
            self.host.resume()
            self.tape.stopped.append((self.now_ns, False))
        else:
            # The control thread itself was kept from running: ticks are skipped, not made up for.
            self.rig.now_ns += 10 * (b % 40) * MS
        self.advance(1)

    # --- what the processes do ------------------------------------------------------------------

    def _write_lease(self) -> None:
        named = self.instruction if self.names_instruction and self.source == "policy" else 0
        expiry_ns = self.now_ns + LEASE_NS
        self.rig.lease.write(self.source, self.epoch, expiry_ns, named)
        entry = LeaseEntry(self.now_ns, self.source, self.epoch, expiry_ns, named)
        self.tape.leases.append(entry)

    def _learn_task(self) -> None:
        """The executor hears of episode, instruction and epoch."""
        task = (self.episode, self.instruction)
        state = to_robot_state(self.host.state())
        context = BufferContext(episode_id=task[0], instruction_id=task[1], epoch=self.epoch)
        if self.is_fast:
            # Latents belong to no epoch.
            context = dataclasses.replace(context, epoch=0)
            rest = self.executor.set_context(context, self.clock_ns(), state)
        else:
            rest = self.committer.set_context(context, self.clock_ns(), state)
        if self.seen_task not in (None, task) and rest is not None and self.skew_ns == 0:
            self.tape.changes.append(TaskChange(self.now_ns, *self.seen_task))
        self.seen_task = task
        self._write(rest)

    def _write(self, segment: Segment | None, *, is_rogue: bool = False) -> None:
        if segment is None:
            return
        number = write_segment(self.rig.segments, segment)
        self.counts["rogue segments" if is_rogue else "segments"] += 1
        self.tape.written[number] = Written(
            self.now_ns,
            segment.target_ns,
            segment.valid_until_ns,
            segment.epoch,
            segment.stamp.instruction_id,
            is_rogue,
            tuple(segment.gripper_width_m.tolist()),
        )

    # --- what is produced -----------------------------------------------------------------------

    def _stamp(self, a: int, b: int) -> LatencyStamp:
        now_ns = self.clock_ns()
        capture_ns = now_ns - 5 * (a % 40) * MS
        valid_ns = VALID_MS[b % len(VALID_MS)] * MS
        soft = SOFT[(a + b) % len(SOFT)]
        stamp = LatencyStamp(
            kind=StampKind.CHUNK,
            seq=next(self.numbers),
            episode_id=self.episode,
            epoch=self.epoch,
            instruction_id=self.instruction,
            capture_oldest_ns=capture_ns,
            capture_newest_ns=capture_ns,
            request_ns=capture_ns,
            publish_ns=now_ns,
            soft_expire_ns=capture_ns + round(soft * valid_ns) if soft else 0,
            hard_expire_ns=capture_ns + valid_ns,
        )
        if (a * 7 + b) % 4 == 0:
            stamp = stamp.replace(**SPOILS[(a + 3 * b) % len(SPOILS)](stamp))
        return stamp

    def rows(self, target0_ns: int, seed: int, n: int) -> ActionChunk:
        """Rows straight on from the reference, back towards home where it is far away."""
        state = self.host.state()
        start = np.array(state["ref_position"])
        direction = np.random.default_rng(seed).normal(size=3)
        if np.linalg.norm(start - self.home) > 0.1:
            direction = self.home - start
        velocity = direction * (0.05 + 0.3 * (seed % 5) / 4) / np.linalg.norm(direction)
        codes = np.array([next(self.numbers) * 1e-9 for _ in range(n)])
        return ActionChunk(
            target0_ns=target0_ns,
            dt_ns=ROW_NS,
            positions=start + np.outer(np.arange(n) * ROW_NS * 1e-9, velocity),
            quats_xyzw=np.tile(state["ref_quat_xyzw"], (n, 1)),
            gripper_width_m=codes,
        )

    def remember(self, chunk: ActionChunk, stamp: LatencyStamp) -> None:
        """Note for the oracle what these rows are and until when they may be executed."""
        codes = tuple(chunk.gripper_width_m.tolist())
        until_ns = stamp.hard_expire_ns - max(0, min(stamp.clock_err_ns, 10**10))
        if stamp.hard_expire_ns <= 0:
            until_ns = 2**63 - 1  # the control host goes by the segment alone
        origin = Origin(codes, until_ns, stamp.episode_id, stamp.instruction_id)
        for row, code in enumerate(codes):
            self.tape.origins[code] = (origin, row)
