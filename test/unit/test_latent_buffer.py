# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.latency.buffer import Admission, BufferContext, LatentBuffer
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.latency.stamping import soft_validity_ns, validity_ns
from vla_ros.types import Latent

MS = 1_000_000


def latent(capture_ms, expire_ms=10_000, episode=1, instruction=1, schema=5, value=0.0):
    stamp = LatencyStamp(
        kind=StampKind.LATENT,
        capture_oldest_ns=capture_ms * MS,
        hard_expire_ns=expire_ms * MS,
        episode_id=episode,
        instruction_id=instruction,
        schema_hash=schema,
    )
    return Latent(tensors={"a": np.array([value])}, stamp=stamp)


@pytest.fixture
def buffer():
    b = LatentBuffer()
    b.set_context(BufferContext(episode_id=1, instruction_id=1, schema_hash=5))
    return b


@pytest.mark.parametrize(
    ("offered", "now_ms", "admission"),
    [
        (latent(100), 200, Admission.ACCEPTED),
        (latent(100, expire_ms=150), 200, Admission.EXPIRED),
        (latent(100, episode=2), 200, Admission.WRONG_EPISODE),
        (latent(100, instruction=2), 200, Admission.WRONG_INSTRUCTION),
        (latent(100, schema=6), 200, Admission.WRONG_SCHEMA),
        (latent(100, value=np.nan), 200, Admission.NOT_FINITE),
        (latent(400), 200, Admission.FROM_FUTURE),
    ],
)
def test_offer_says_what_became_of_a_latent(buffer, offered, now_ms, admission):
    assert buffer.offer(offered, now_ms * MS) is admission
    assert buffer.counts[admission] == 1
    assert (buffer.newest_usable(now_ms * MS) is None) == (admission is not Admission.ACCEPTED)


def test_duplicate_is_refused_and_does_not_refresh_the_age(buffer):
    assert buffer.offer(latent(100), 200 * MS) is Admission.ACCEPTED
    assert buffer.offer(latent(100), 300 * MS) is Admission.OUT_OF_ORDER
    assert buffer.newest_usable(300 * MS).stamp.age_ns(300 * MS) == 200 * MS


def test_newest_usable_is_none_after_hard_expiry(buffer):
    buffer.offer(latent(100, expire_ms=500), 200 * MS)
    assert buffer.newest_usable(500 * MS) is not None
    assert buffer.newest_usable(500 * MS + 1) is None
    assert "expired" in buffer.why_empty(600 * MS)


def test_change_of_instruction_drops_what_was_held(buffer):
    buffer.offer(latent(100), 200 * MS)
    buffer.set_context(BufferContext(episode_id=1, instruction_id=2))
    assert buffer.newest_usable(200 * MS) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1000),
            st.integers(0, 2000),
            st.integers(1, 2),
            st.integers(1, 2),
            st.integers(0, 100),
        ),
        max_size=60,
    )
)
def test_whatever_arrives_only_younger_valid_latents_of_the_context_come_out(arrivals):
    buffer = LatentBuffer()
    buffer.set_context(BufferContext(episode_id=1, instruction_id=1))
    now_ms, newest = 0, -1
    for capture, expire, episode, instruction, wait in arrivals:
        now_ms += wait
        buffer.offer(latent(capture, expire, episode, instruction), now_ms * MS)
        usable = buffer.newest_usable(now_ms * MS)
        if usable is None:
            continue
        stamp = usable.stamp
        assert stamp.episode_id == 1
        assert stamp.instruction_id == 1
        assert stamp.hard_expire_ns >= now_ms * MS
        assert stamp.capture_oldest_ns >= newest
        newest = stamp.capture_oldest_ns


def test_validity_is_twice_p95_plus_period_but_never_beyond_max_age():
    assert validity_ns(8000, 500, 500) == 1500
    assert validity_ns(1000, 500, 500) == 1000


@pytest.mark.parametrize(
    ("latency_ms", "period_ms", "validity_ms", "soft_ms"),
    [
        (300, 300, 900, 600),  # until the next one is normally there
        (5000, 5000, 6000, 4500),  # where the policy itself sets the limit: three quarters
        (0, 100, 100, 0),  # too short to slow down gently
    ],
)
def test_latent_is_followed_at_full_speed_until_the_next_one_is_due(
    latency_ms, period_ms, validity_ms, soft_ms
):
    assert soft_validity_ns(validity_ms * MS, latency_ms * MS, period_ms * MS) == soft_ms * MS
