# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from vla_ros.latency.buffer import Admission
from vla_ros.latency.clock_domain import ClockGate
from vla_ros.latency.relay import LatentRelay
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.types import Latent

MS = 1_000_000
OWN = bytes([1] * 16)


def latent(
    capture_ms: int,
    episode: int = 1,
    instruction: int = 1,
    expire_ms: int = 10_000,
    clock_id: bytes = OWN,
    value: float = 0.0,
) -> Latent:
    stamp = LatencyStamp(
        kind=StampKind.LATENT,
        clock_id=clock_id,
        capture_oldest_ns=capture_ms * MS,
        hard_expire_ns=expire_ms * MS,
        episode_id=episode,
        instruction_id=instruction,
    )
    return Latent(tensors={"a": np.array([value])}, stamp=stamp)


def passed(relay: LatentRelay, *latents: Latent, now_ms: int = 500) -> list[bool]:
    return [relay.pass_on(x, now_ms * MS) is not None for x in latents]


def test_order_of_capture_is_kept() -> None:
    relay = LatentRelay(ClockGate(OWN))
    outcome = passed(relay, latent(100), latent(90), latent(100), latent(110))
    assert outcome == [True, False, False, True]
    assert relay.counts[Admission.OUT_OF_ORDER] == 2
    assert relay.counts[Admission.ACCEPTED] == 2


def test_episode_and_instruction_only_go_forward() -> None:
    relay = LatentRelay(ClockGate(OWN))
    assert passed(relay, latent(100, 2, 5), latent(200, 1, 9), latent(300, 2, 4)) == [
        True,
        False,
        False,
    ]
    # A new instruction may be about older images than the last latent.
    assert passed(relay, latent(50, 2, 6), latent(40, 3, 1)) == [True, True]
    assert relay.counts[Admission.WRONG_EPISODE] == 1
    assert relay.counts[Admission.WRONG_INSTRUCTION] == 1


def test_latent_that_is_refused_does_not_move_the_episode_on() -> None:
    relay = LatentRelay(ClockGate(OWN))
    bad = (
        latent(100, 9, clock_id=bytes([2] * 16)),
        latent(100, 9, expire_ms=1),
        latent(100, 9, value=np.nan),
        latent(100_000, 9),
    )
    assert passed(relay, latent(100), *bad, latent(200)) == [True, *[False] * 4, True]
    for reason in ("WRONG_CLOCK", "EXPIRED", "NOT_FINITE", "FROM_FUTURE"):
        assert relay.counts[Admission[reason]] == 1


def test_other_schema_is_refused() -> None:
    relay = LatentRelay(ClockGate(OWN), schema_hash=7)
    assert passed(relay, latent(100)) == [False]
    assert relay.counts[Admission.WRONG_SCHEMA] == 1
