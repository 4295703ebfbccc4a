# SPDX-License-Identifier: Apache-2.0
"""Policies in virtual time: what is computed arrives when its delay is over, or never."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategy_samples import make_observation

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.errors import PolicyError
from vla_ros.sim.execution import Counts, ExecutionConfig
from vla_ros.sim.rig.delays import DelayConfig
from vla_ros.sim.split_execution import SplitExecution
from vla_ros.sim.whole_execution import JoinedHalves, WholeExecution
from vla_ros.types import ActionChunk, CameraFrame, CameraIntrinsics, Observation

MS = 1_000_000
START = 10_000 * MS
STEP = 33 * MS


def seen(now_ns: int, instruction_id: int = 1, words: str = "first") -> Observation:
    frame = CameraFrame(
        name="scene_camera",
        rgb=np.zeros((4, 4, 3), dtype=np.uint8),
        depth_m=None,
        intrinsics=CameraIntrinsics(width=4, height=4, fx=1.0, fy=1.0, cx=2.0, cy=2.0),
        T_base_camera=np.eye(4),
        capture_ns=now_ns,
    )
    return replace(
        make_observation(now_ns),
        frames={"scene_camera": frame},
        instruction=words,
        instruction_id=instruction_id,
        episode_id=1,
    )


class Slow:
    name, max_age_s = "slow", 5.0

    def __init__(self) -> None:
        self.words: list[str] = []

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        pass

    def encode(self, observation: Observation) -> dict[str, np.ndarray]:
        self.words.append(observation.instruction)
        return {"word": np.array([len(observation.instruction)])}


class Fast:
    name, chunk_rows, chunk_dt_ns = "fast", 16, 33 * MS

    def reset(self) -> None:
        pass

    def decode(self, latent, observation, now_ns) -> ActionChunk:
        n = self.chunk_rows
        return ActionChunk(
            target0_ns=now_ns,
            dt_ns=self.chunk_dt_ns,
            positions=np.tile([0.4, 0.0, 0.01 * latent.tensors["word"][0]], (n, 1)),
            quats_xyzw=np.tile([1.0, 0.0, 0.0, 0.0], (n, 1)),
            gripper_width_m=np.full(n, 0.08),
        )


def play(execution, until_ns: int, change_ns: int | None = None, camera: bool = True):
    """Step as the lock step does; return the instants at which there were rows, and all rows."""
    execution.begin(1, 3)
    rows = []
    words = "first"
    for now_ns in range(START, START + until_ns, MS):
        if change_ns is not None and now_ns == START + change_ns:
            words = "another"
            execution.instruct(now_ns, make_observation(now_ns).state)
        due_ns = execution.due_ns
        is_step = (now_ns - START) % STEP == 0
        if not is_step and (due_ns is None or now_ns < due_ns):
            continue
        observation = seen(now_ns, execution.instruction_id, words)
        execution.look(now_ns, observation)
        if is_step:
            result = execution.step(now_ns, observation)
            if result.chunk is not None:
                rows.append((now_ns - START, result.chunk))
    return rows


def whole(config: ExecutionConfig) -> WholeExecution:
    return WholeExecution(JoinedHalves(Slow(), Fast()), config)


@pytest.mark.parametrize("delay_ms", [0.0, 99.0, 500.0])
@pytest.mark.parametrize("make", [lambda c: SplitExecution(Slow(), Fast(), c), whole])
def test_the_first_rows_come_when_the_delay_is_over(make, delay_ms) -> None:
    config = ExecutionConfig(strategy="timed", delay=DelayConfig(mean_ms=delay_ms))
    rows = play(make(config), 1200 * MS)
    assert delay_ms * MS <= rows[0][0] < delay_ms * MS + STEP


def test_a_split_policy_acts_at_every_step_a_whole_one_once_a_delay() -> None:
    config = ExecutionConfig(strategy="naive", admits=False, delay=DelayConfig(mean_ms=198.0))
    one = whole(config)
    play(one, 4000 * MS)
    halves = SplitExecution(Slow(), Fast(), replace(config, strategy="timed"))
    play(halves, 4000 * MS)
    assert one.counts.chunk_hz == pytest.approx(1000 / 198, rel=0.02)
    assert halves.counts.chunk_hz == pytest.approx(1000 / 33, rel=0.01)
    assert halves.counts.slow == pytest.approx(one.counts.slow, abs=1)


def test_a_result_that_is_dropped_never_arrives_and_is_asked_for_again() -> None:
    lossy = DelayConfig(mean_ms=66.0, drop_share=0.5)
    for execution in (
        SplitExecution(Slow(), Fast(), ExecutionConfig(delay=lossy, timeout_s=0.2)),
        whole(ExecutionConfig(strategy="naive", delay=lossy, timeout_s=0.2, admits=False)),
    ):
        play(execution, 6000 * MS)
        arrived = 6000 / (0.5 * (66 + 200))
        assert 0.6 * arrived < execution.counts.slow < 1.4 * arrived
        if isinstance(execution, WholeExecution):
            assert execution.counts.chunks < execution.counts.slow


def test_the_same_seed_gives_the_same_delays_whatever_ran_before() -> None:
    config = ExecutionConfig(delay=DelayConfig(kind="lognormal", mean_ms=150.0, cv=0.8))
    execution = SplitExecution(Slow(), Fast(), config)
    first = [(at, chunk.positions.tolist()) for at, chunk in play(execution, 3000 * MS)]
    again = [(at, chunk.positions.tolist()) for at, chunk in play(execution, 3000 * MS)]
    assert first == again


@pytest.mark.parametrize("make", [lambda c: SplitExecution(Slow(), Fast(), c), whole])
@pytest.mark.parametrize("old_counts", [False, True])
def test_rows_of_another_instruction_come_a_whole_delay_after_it(make, old_counts) -> None:
    config = ExecutionConfig(
        delay=DelayConfig(mean_ms=330.0), old_instruction_counts=old_counts, admits=not old_counts
    )
    change_ms = 1100  # in the middle of an inference
    execution = make(config)
    rows = play(execution, 3000 * MS, change_ns=change_ms * MS)
    new_z_m = 0.01 * len("another")
    first_ms = next(at for at, chunk in rows if chunk.positions[-1, 2] == new_z_m) / MS
    if old_counts:  # the inference under way is waited for
        assert first_ms > change_ms + 340
    else:
        assert change_ms + 330 <= first_ms <= change_ms + 330 + 2 * 33
        old = [at for at, c in rows if at > change_ms * MS and c.positions[-1, 2] != new_z_m]
        assert not old


class Failing:
    name = "failing"
    capabilities = PolicyCapabilities(horizon=16, dt_ns=33 * MS)

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        pass

    def infer(self, request):
        raise PolicyError("no rows today")


def test_a_call_that_fails_costs_its_delay_and_gives_no_rows() -> None:
    execution = WholeExecution(Failing(), ExecutionConfig(delay=DelayConfig(mean_ms=99.0)))
    assert not play(execution, 1000 * MS)
    assert 8 <= execution.counts.failed <= 11


def test_chunks_per_second_need_two() -> None:
    counts = Counts()
    counts.add_chunk(1000 * MS)
    assert np.isnan(counts.chunk_hz)
    counts.add_chunk(1100 * MS)
    counts.add_chunk(1200 * MS)
    assert counts.chunk_hz == pytest.approx(10.0)
