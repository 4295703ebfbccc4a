# SPDX-License-Identifier: Apache-2.0
"""LeRobot's asynchronous client: a queue of actions that are counted, not timed.

    i_0 = max(number of the newest executed action, 0) when the observation is sent
    row i of its chunk is action i_0 + i
    dropped                       if its number <= the newest executed one
    aggregate(old, new)           if the queue has the number: by default 0.3 old + 0.7 new
    new                           otherwise; old numbers beyond the new chunk are discarded

An observation is sent at every step at which len(queue) / chunk size <= ``chunk_size_threshold``.
The server keeps the newest one that passes its filter: a number not predicted yet and, as an
option, joint positions that differ (L2 norm >= 1) from those last processed; ``must_go`` (queue
empty, armed again by every chunk) passes both.

Source: LeRobot 7427f318, ``async_inference/robot_client.py`` and ``policy_server.py``. Faithful in
the counting clock (it stops while the queue is empty), the trigger, the filters, the aggregation
(quaternions and gripper linear, without aligning signs; here then normalised) and in what happens
at starvation: the last target stays, so ``plan`` repeats it and never returns None after the first
action. Different: an observation is taken before the step's action is popped, not after it; the
races on the queue are left out; the similarity filter is off by default because its fixed tolerance
is meant for degrees and stops every inference of an arm in radians; after ``rearm_s`` without a
result ``must_go`` is armed again, where LeRobot would wait for ever for a result that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities, Situation
from vla_ros.chunking.strategies.common import PlanStrategy
from vla_ros.config_fields import check_fields, setting
from vla_ros.rotations import normalised
from vla_ros.types import ActionChunk

Array = NDArray[np.float64]

AGGREGATES = {  # share of the old and of the new action
    "weighted_average": (0.3, 0.7),
    "latest_only": (0.0, 1.0),
    "average": (0.5, 0.5),
    "conservative": (0.7, 0.3),
}
HELD_ROWS = 4  # of the last target, while the queue is empty


@dataclass(frozen=True, kw_only=True)
class WeightedAverageSettings:
    """Settings of ``weighted_average``; published thresholds are 0.3, 0.5, 0.7 and 0.95."""

    chunk_size_threshold: float = setting(
        0.5, "observations are sent while the queue is at most this full", ge=0.0, le=1.0
    )
    aggregate: str = setting(
        "weighted_average", "what becomes of two actions of a number", choices=tuple(AGGREGATES)
    )
    similarity_filter: bool = setting(False, "leave out observations like the last processed one")
    similarity_atol: float = setting(
        1.0, "L2 norm of the joint difference that is similar", unit="rad", ge=0.0, le=1e3
    )
    rearm_s: float = setting(
        2.0, "time after which a result is taken for lost; 0: never", unit="s", ge=0.0, le=60.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


def _packed(rows: ActionChunk) -> Array:
    return np.hstack([rows.positions, rows.quats_xyzw, rows.gripper_width_m[:, None]])


@dataclass
class _Client:
    """What LeRobot's client and server remember."""

    queue: dict[int, Array] = field(default_factory=dict)  # by number, in order
    latest: int = -1  # number of the newest executed action
    newest_mixed: int = -1  # newest number that is made of two actions
    chunk_size: int = -1  # as there: 0 / -1 lets the first observation pass
    must_go: bool = True
    predicted: set[int] = field(default_factory=set)
    processed_q: Array | None = None
    waiting: tuple[Situation, int] | None = None  # at the server, with its number
    first_numbers: dict[int, int] = field(default_factory=dict)  # by request
    asked_ns: int = 0
    template: ActionChunk | None = None  # lends the rows what is not in the queue
    target: Array | None = None  # the action executed last


class WeightedAverage(PlanStrategy):
    """Counts actions; ``plan`` executes one, so it must be called exactly once per step."""

    name = "weighted_average"

    def __init__(self, capabilities: PolicyCapabilities, settings: WeightedAverageSettings) -> None:
        super().__init__(capabilities)
        self._settings = settings
        self._client = _Client()

    def reset(self) -> None:
        """Forget the queue, the count and what the server has seen."""
        super().reset()
        self._client = _Client()

    def drop_rows(self) -> None:
        """Forget queue and target; the count goes on."""
        super().drop_rows()
        self._client.queue = {}
        self._client.newest_mixed = -1
        self._client.template = self._client.target = None

    @property
    def queue_numbers(self) -> list[int]:
        """Numbers of the actions in the queue, oldest first."""
        return list(self._client.queue)

    def request(self, situation: Situation) -> InferenceRequest | None:
        """Send the observation if the queue is low; the server infers the newest it let pass."""
        client = self._client
        self._rearm(situation)
        if len(client.queue) / client.chunk_size <= self._settings.chunk_size_threshold:
            self._send(situation)
        if situation.in_flight > 0 or client.waiting is None:
            return None
        (seen, first), client.waiting = client.waiting, None
        request = self._ask(seen, target0_ns=seen.now_ns)
        client.first_numbers[request.seq] = first
        client.predicted.add(first)
        client.processed_q = seen.state.q
        client.asked_ns = situation.now_ns
        return request

    def plan(self, situation: Situation) -> ActionChunk | None:
        """Execute the next action: it is due now, the rest of the queue after it."""
        client = self._client
        if client.template is None:
            return None
        past = [] if client.target is None else [client.target]
        if not client.queue:
            return self._as_rows(client.template, past * HELD_ROWS, situation.now_ns)
        actions = [*past, *client.queue.values()]
        client.target = actions[len(past)]
        client.latest = next(iter(client.queue))
        del client.queue[client.latest]
        self._note_mixed(situation.now_ns)
        start_ns = situation.now_ns - len(past) * self.dt_ns
        return self._as_rows(client.template, actions, start_ns)

    def offer(
        self, chunks: tuple[ActionChunk, ...], request: InferenceRequest, now_ns: int
    ) -> None:
        """Aggregate a result into the queue."""
        if not chunks or not self._ledger.take(request):
            return
        client = self._client
        old_share, new_share = AGGREGATES[self._settings.aggregate]
        client.template = chunks[0]
        client.chunk_size = max(client.chunk_size, chunks[0].horizon)
        queue: dict[int, Array] = {}
        first = client.first_numbers.pop(request.seq)
        for number, new in enumerate(_packed(chunks[0]), start=first):
            if number <= client.latest:
                continue
            old = client.queue.get(number)
            queue[number] = new if old is None else old_share * old + new_share * new
            if old is not None and old_share > 0.0:
                client.newest_mixed = number
        client.queue = queue
        client.must_go = True
        self.origin = request
        self._note_mixed(now_ns)

    def _note_mixed(self, now_ns: int) -> None:
        # One action a step, and the last of them is held until the next.
        left = sum(number <= self._client.newest_mixed for number in self._client.queue)
        is_held = 0 <= self._client.latest <= self._client.newest_mixed
        self._mixed_until_ns = now_ns + (left + 1) * self.dt_ns if left or is_held else 0

    def _rearm(self, situation: Situation) -> None:
        limit_ns = 1e9 * self._settings.rearm_s
        quiet_ns = situation.now_ns - self._client.asked_ns
        if limit_ns > 0 and situation.in_flight == 0 and quiet_ns > limit_ns:
            self._client.must_go = True

    def _send(self, situation: Situation) -> None:
        client = self._client
        number = max(client.latest, 0)
        must_go = client.must_go and not client.queue
        if must_go:
            client.must_go = False
        is_new = number not in client.predicted and not self._is_similar(situation.state.q)
        if must_go or client.processed_q is None or is_new:
            client.waiting = (situation, number)

    def _is_similar(self, q: Array) -> bool:
        processed = self._client.processed_q
        if not self._settings.similarity_filter or processed is None:
            return False
        return float(np.linalg.norm(q - processed)) < self._settings.similarity_atol

    def _as_rows(
        self, template: ActionChunk, actions: list[Array], target0_ns: int
    ) -> ActionChunk | None:
        if not actions:
            return None
        packed = np.stack(actions)
        return replace(
            template,
            target0_ns=target0_ns,
            positions=packed[:, :3],
            quats_xyzw=normalised(packed[:, 3:7], np.array([0.0, 0.0, 0.0, 1.0])),
            gripper_width_m=packed[:, 7],
        )
