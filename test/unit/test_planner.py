# SPDX-License-Identifier: Apache-2.0
"""The Python half as one: what is asked for, admitted, joined and committed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from admission_samples import state
from strategy_samples import DT_NS, able, capabilities, make_chunk

from vla_ros.chunking.admission import ChunkAdmission, ChunkFormat
from vla_ros.chunking.commit import ChunkCommitter
from vla_ros.chunking.planner import ChunkPlanner, Planned
from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.chunking.strategies.registry import make_strategy
from vla_ros.latency.admission import Admission, BufferContext
from vla_ros.latency.estimator import DelayConfig, DelayEstimator
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import Observation

START = 100 * DT_NS


def planner(name: str = "naive", *, admits: bool = True) -> ChunkPlanner:
    form = ChunkFormat(dt_ns=DT_NS, horizon=8)
    delays = DelayEstimator(DelayConfig(warmup=0))
    made = ChunkPlanner(
        make_strategy(name, able() if name.startswith("rtc") else capabilities()),
        ChunkCommitter(ChunkAdmission(form), delays),
        admits=admits,
    )
    made.set_context(BufferContext(episode_id=1, instruction_id=1), START, None)
    return made


def seen(instruction: int = 1) -> Observation:
    return Observation(state=state(), instruction="go", instruction_id=instruction, episode_id=1)


def stamped(
    request: InferenceRequest, asked_ns: int, now_ns: int, **changes: object
) -> LatencyStamp:
    values: dict[str, object] = {
        "kind": StampKind.CHUNK,
        "seq": request.seq,
        "episode_id": 1,
        "instruction_id": 1,
        "capture_oldest_ns": asked_ns,
        "request_ns": asked_ns,
        "publish_ns": now_ns,
        "hard_expire_ns": asked_ns + 100 * DT_NS,
    }
    return LatencyStamp(**(values | changes))  # type: ignore[arg-type]


def answer(made: ChunkPlanner, request: InferenceRequest, now_ns: int, **changes: object):
    chunk = make_chunk(request.target0_ns, np.arange(8.0) / 100)
    stamp = stamped(request, START, now_ns, **changes)
    return made.offer((chunk,), request, stamp, now_ns)


def asked(made: ChunkPlanner, now_ns: int = START) -> InferenceRequest:
    request = made.request(now_ns, seen())
    assert request is not None
    return request


def test_rows_of_an_answer_are_committed_under_its_stamp() -> None:
    made = planner()
    request = asked(made)
    now_ns = START + 2 * DT_NS
    assert made.plan(now_ns, seen()) is None
    assert answer(made, request, now_ns).admission is Admission.ACCEPTED
    planned = made.plan(now_ns, seen())
    assert planned is not None
    assert planned.segment.stamp.seq == request.seq
    assert planned.segment.stamp.publish_ns == now_ns
    assert planned.segment.target_ns[-1] == planned.rows.target0_ns + DT_NS * (
        planned.rows.horizon - 1
    )
    assert made.committer.delays.latency_ns == 2 * DT_NS


def test_plan_longer_than_a_segment_is_committed_in_parts() -> None:
    made = ChunkPlanner(
        make_strategy("naive", capabilities(horizon=100)),
        ChunkCommitter(ChunkAdmission(ChunkFormat(dt_ns=DT_NS, horizon=100)), DelayEstimator()),
    )
    made.set_context(BufferContext(episode_id=1, instruction_id=1), START, None)
    request = asked(made)
    chunk = make_chunk(START, np.arange(100.0) / 1000)
    made.offer((chunk,), request, stamped(request, START, START), START)
    ends = []
    for step in (0, 30, 60):
        planned = made.plan(START + step * DT_NS, seen())
        assert planned is not None
        assert len(planned.segment.target_ns) <= 64
        ends.append((planned.segment.target_ns[-1] - START) // DT_NS)
    assert ends == [63, 92, 99]  # from the row before that in force on


def test_one_answer_at_a_time_until_it_is_given_up() -> None:
    made = planner()
    request = asked(made)
    assert made.request(START + DT_NS, seen()) is None
    made.give_up(request)
    assert made.request(START + 2 * DT_NS, seen()) is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"instruction_id": 2}, Admission.WRONG_INSTRUCTION),
        ({"episode_id": 2}, Admission.WRONG_EPISODE),
        ({"hard_expire_ns": START + DT_NS}, Admission.EXPIRED),
    ],
)
def test_what_is_not_admitted_never_reaches_the_strategy(
    changes: dict[str, object], reason: Admission
) -> None:
    made = planner()
    request = asked(made)
    now_ns = START + 2 * DT_NS
    assert answer(made, request, now_ns, **changes).admission is reason
    assert made.plan(now_ns, seen()) is None
    assert made.request(now_ns, seen()) is not None  # it is on its way no longer


def test_clients_without_admission_take_all_of_it() -> None:
    made = planner(admits=False)
    request = asked(made)
    now_ns = START + 2 * DT_NS
    assert answer(made, request, now_ns, instruction_id=2).admission is Admission.ACCEPTED
    assert made.plan(now_ns, seen()) is not None


def test_results_asked_for_by_another_strategy_are_not_used() -> None:
    made = planner("weighted_average")
    request = asked(made)
    made.use(make_strategy("naive", capabilities()))
    now_ns = START + 2 * DT_NS
    answer(made, request, now_ns)
    assert made.plan(now_ns, seen()) is None


def test_new_instruction_forgets_rows_and_requests() -> None:
    made = planner()
    request = asked(made)
    answer(made, request, START + DT_NS)
    assert made.plan(START + DT_NS, seen()) is not None
    rest = made.set_context(
        BufferContext(episode_id=1, instruction_id=2), START + 2 * DT_NS, state(0.15)
    )
    assert rest is not None
    assert rest.valid_until_ns <= START + 5 * DT_NS
    assert made.plan(START + 2 * DT_NS, seen(2)) is None
    assert made.request(START + 2 * DT_NS, seen(2)) is not None


@pytest.mark.parametrize("name", ["timed", "state_projection", "temporal_ensemble", "naive"])
def test_expired_rows_are_nothing_to_go_on_from(name: str) -> None:
    """The arm has come to rest elsewhere: the next rows are those that were asked for."""
    made = planner(name)
    request = asked(made)
    chunk = make_chunk(START, np.linspace(5.0, 6.0, 8))
    now_ns = START + DT_NS
    until_ns = now_ns + DT_NS
    made.offer((chunk,), request, stamped(request, START, now_ns, hard_expire_ns=until_ns), now_ns)
    assert made.plan(now_ns, seen()) is not None
    late_ns = until_ns + DT_NS // 2
    request = asked(made, late_ns)
    assert made.plan(late_ns, seen()) is None
    new = make_chunk(request.target0_ns, np.zeros(8))
    made.offer((new,), request, stamped(request, late_ns, late_ns), late_ns)
    planned = made.plan(max(late_ns, new.target0_ns), seen())
    assert planned is not None
    assert not planned.segment.positions.any()


def segments_of_two_chunks(
    name: str, rng: np.random.Generator, old_until_ns: int
) -> Iterator[tuple[int, Planned]]:
    """Plan at every step with a chunk of ones that expires, then one of zeros that does not."""
    made = planner(name)
    values = {1: (1.0, old_until_ns), 2: (0.0, START + 100 * DT_NS)}
    waiting: tuple[InferenceRequest, int] | None = None
    for step in range(20):
        now_ns = START + step * DT_NS
        if waiting is not None and now_ns >= waiting[1]:
            request, waiting = waiting[0], None
            value, until_ns = values[request.seq]
            chunk = make_chunk(request.target0_ns, np.full(8, value))
            stamp = stamped(request, START, now_ns, hard_expire_ns=until_ns)
            made.offer((chunk,), request, stamp, now_ns)
        request_now = made.request(now_ns, seen())
        if request_now is not None and request_now.seq in values:
            waiting = (request_now, now_ns + int(rng.integers(1, 4)) * DT_NS)
        planned = made.plan(now_ns, seen())
        if planned is not None:
            yield now_ns, planned


@pytest.mark.parametrize("name", ["state_projection", "temporal_ensemble", "weighted_average"])
def test_rows_that_owe_something_to_an_older_chunk_expire_with_it(name: str) -> None:
    n_mixed = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        old_until_ns = START + int(rng.integers(2, 10) * DT_NS + rng.integers(DT_NS))
        for now_ns, planned in segments_of_two_chunks(name, rng, old_until_ns):
            x = planned.rows.positions[:, 0]
            begin_ns = planned.rows.target0_ns + DT_NS * np.arange(len(x))
            is_old = (begin_ns + DT_NS > now_ns) & (x > 1e-9)
            n_mixed += bool(is_old.any() and (x < 1.0).any())
            if is_old.any():
                assert planned.segment.valid_until_ns <= old_until_ns
    assert n_mixed > 10
