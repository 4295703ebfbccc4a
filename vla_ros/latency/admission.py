# SPDX-License-Identifier: Apache-2.0
"""What may be acted on: the rules that latents and chunks have in common."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vla_ros.latency.stamp import ClockDomain, LatencyStamp

FUTURE_TOLERANCE_NS = 50_000_000


class Admission(enum.Enum):
    """What became of a latent or a chunk that arrived."""

    ACCEPTED = "accepted"
    EXPIRED = "expired"
    OUT_OF_ORDER = "out of order"
    WRONG_EPISODE = "wrong episode"
    WRONG_INSTRUCTION = "wrong instruction"
    WRONG_SCHEMA = "wrong schema"
    NOT_FINITE = "not finite"
    FROM_FUTURE = "captured in the future"
    WRONG_EPOCH = "wrong epoch"
    WRONG_MODEL = "wrong model"
    WRONG_CLOCK = "clock of another host"
    CLOCK_JUMP = "clock jumped"
    WRONG_FORMAT = "wrong dt or number of rows"
    NOT_UNIT = "quaternion not unit"
    ALL_ROWS_PAST = "all rows past"
    NOT_FINISHED = "rows of the running chunk remain"


@dataclass(frozen=True, kw_only=True)
class BufferContext:
    """What a latent or chunk must belong to.

    Zero accepts any epoch, schema or model; no ``clock_id`` accepts any clock.
    """

    episode_id: int
    instruction_id: int
    schema_hash: int = 0
    epoch: int = 0
    model_hash: int = 0
    clock_id: bytes = b""
    clock_domain: ClockDomain = ClockDomain.MONOTONIC


def judge_stamp(
    stamp: LatencyStamp, context: BufferContext, now_ns: int, *, is_newest: bool
) -> Admission:
    """Say whether a payload with this stamp may be acted on at ``now_ns``.

    The uncertainty of the clock is taken off the validity. ``is_newest``: its causes are younger
    than all that was admitted before; admission is by capture time, never by arrival.
    """
    if stamp.clock_domain != context.clock_domain:
        return Admission.WRONG_CLOCK
    if context.clock_id and stamp.clock_id != context.clock_id:
        return Admission.WRONG_CLOCK
    if stamp.episode_id != context.episode_id:
        return Admission.WRONG_EPISODE
    if stamp.instruction_id != context.instruction_id:
        return Admission.WRONG_INSTRUCTION
    if context.epoch not in (0, stamp.epoch):
        return Admission.WRONG_EPOCH
    if context.model_hash not in (0, stamp.model_hash):
        return Admission.WRONG_MODEL
    if context.schema_hash not in (0, stamp.schema_hash):
        return Admission.WRONG_SCHEMA
    if stamp.capture_oldest_ns > now_ns + FUTURE_TOLERANCE_NS:
        return Admission.FROM_FUTURE
    if not is_newest:
        return Admission.OUT_OF_ORDER
    if now_ns > stamp.usable_until_ns:
        return Admission.EXPIRED
    return Admission.ACCEPTED
