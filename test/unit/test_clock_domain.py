# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.latency.buffer import Admission, BufferContext, LatentBuffer
from vla_ros.latency.clock_domain import ClockGate, ClockOffset
from vla_ros.latency.stamp import ClockDomain, LatencyStamp, StampKind
from vla_ros.types import Latent

MS = 1_000_000
OWN, OTHER = bytes([1] * 16), bytes([2] * 16)
OFFSET = ClockOffset(clock_id=OTHER, offset_ns=5000 * MS, uncertainty_ns=20 * MS)


def stamp(clock_id: bytes, base_ms: int = 0, **changes: object) -> LatencyStamp:
    return LatencyStamp(
        kind=StampKind.LATENT,
        clock_id=clock_id,
        capture_oldest_ns=(base_ms + 100) * MS,
        capture_newest_ns=(base_ms + 110) * MS,
        publish_ns=(base_ms + 200) * MS,
        soft_expire_ns=(base_ms + 500) * MS,
        hard_expire_ns=(base_ms + 900) * MS,
        clock_err_ns=1 * MS,
    ).replace(**changes)


def test_own_stamp_passes_unchanged() -> None:
    own = stamp(OWN)
    assert ClockGate(OWN).to_own(own) is own


@pytest.mark.parametrize("clock_id", [OTHER, bytes(16)])
def test_stamp_of_a_clock_nobody_knows_is_refused(clock_id: bytes) -> None:
    assert ClockGate(OWN).to_own(stamp(clock_id)) is None


@pytest.mark.parametrize("domain", [ClockDomain.TAI, ClockDomain.REALTIME, ClockDomain.SIM])
def test_stamp_of_another_kind_of_clock_is_refused(domain: ClockDomain) -> None:
    gate = ClockGate(OWN, [OFFSET])
    assert gate.to_own(stamp(OWN, clock_domain=domain)) is None
    assert gate.to_own(stamp(OTHER, clock_domain=domain)) is None


def test_known_clock_is_converted_and_the_uncertainty_taken_off_the_validity() -> None:
    converted = ClockGate(OWN, [OFFSET]).to_own(stamp(OTHER, 5000))
    assert converted == stamp(
        OWN, soft_expire_ns=500 * MS, hard_expire_ns=900 * MS, clock_err_ns=21 * MS
    )
    assert converted.usable_until_ns == 879 * MS


def test_instants_that_are_not_set_stay_so() -> None:
    converted = ClockGate(OWN, [OFFSET]).to_own(stamp(OTHER, 5000))
    assert converted is not None
    assert converted.target0_ns == 0
    assert converted.request_ns == 0


def test_buffer_counts_foreign_clocks_and_holds_converted_latents_for_less_time() -> None:
    tensors = {"a": np.zeros(1)}
    buffer = LatentBuffer(ClockGate(OWN, [OFFSET]))
    buffer.set_context(BufferContext(episode_id=0, instruction_id=0))
    unknown = Latent(tensors=tensors, stamp=stamp(bytes([3] * 16)))
    assert buffer.offer(unknown, 200 * MS) is Admission.WRONG_CLOCK
    assert buffer.newest_usable(200 * MS) is None
    known = Latent(tensors=tensors, stamp=stamp(OTHER, 5000))
    assert buffer.offer(known, 200 * MS) is Admission.ACCEPTED
    assert buffer.newest_usable(879 * MS) is not None
    assert buffer.newest_usable(879 * MS + 1) is None
    assert buffer.counts[Admission.WRONG_CLOCK] == 1


def test_converted_latent_never_outlives_what_its_own_host_allowed() -> None:
    """However wrong the offset is, within its uncertainty."""
    for error_ns in range(-20 * MS, 20 * MS + 1, 5 * MS):
        true_offset_ns = OFFSET.offset_ns + error_ns
        converted = ClockGate(OWN, [OFFSET]).to_own(stamp(OTHER, 5000))
        assert converted is not None
        assert converted.usable_until_ns <= stamp(OTHER, 5000).hard_expire_ns - true_offset_ns


@pytest.mark.parametrize(
    ("clock_id", "uncertainty_ns", "match"),
    [(bytes(16), 0, "boot id"), (b"abc", 0, "boot id"), (OTHER, -1, "uncertainty_ns must be >= 0")],
)
def test_offset_that_makes_no_sense_is_refused(
    clock_id: bytes, uncertainty_ns: int, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        ClockOffset(clock_id=clock_id, offset_ns=0, uncertainty_ns=uncertainty_ns)
