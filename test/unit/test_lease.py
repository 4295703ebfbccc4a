# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import SafetyError
from vla_ros.safety.lease import KEEPALIVE_NS, LEASE_NS, RANKS, RESTORE_NS, Lease, LeaseTable

NOW_NS = 10**12
STEP_NS = 20_000_000  # the supervisor renews 50 times a second


def renew_until(table: LeaseTable, start_ns: int, end_ns: int) -> Lease:
    lease = table.renewed(start_ns)
    for now_ns in range(start_ns + STEP_NS, end_ns + 1, STEP_NS):
        lease = table.renewed(now_ns)
    return lease


def held_by(source: str) -> LeaseTable:
    table = LeaseTable()
    table.renewed(NOW_NS)
    table.claim(source, NOW_NS)
    return table


def test_nobody_holds_authority_at_first_and_the_lease_has_expired() -> None:
    lease = LeaseTable().renewed(NOW_NS)
    assert (lease.source, lease.epoch) == ("", 0)
    assert lease.expiry_ns < NOW_NS


def test_lease_runs_for_200_ms_from_every_renewal() -> None:
    table = held_by("policy")
    assert table.renewed(NOW_NS).expiry_ns == NOW_NS + LEASE_NS == NOW_NS + 200_000_000
    assert table.renewed(NOW_NS + 5).expiry_ns == NOW_NS + 5 + LEASE_NS


def test_claim_by_the_holder_keeps_the_epoch() -> None:
    table = LeaseTable()
    assert table.claim("policy", NOW_NS) == table.claim("policy", NOW_NS + 1) == 1


def test_person_takes_over_from_the_policy_under_a_new_epoch() -> None:
    table = LeaseTable()
    before = table.claim("policy", NOW_NS)
    assert table.claim("teleop", NOW_NS) > before
    assert table.holder == "teleop"


def test_policy_cannot_take_over_from_a_person() -> None:
    table = held_by("teleop")
    before = table.renewed(NOW_NS)
    with pytest.raises(SafetyError, match="teleop holds authority and outranks policy"):
        table.claim("policy", NOW_NS)
    assert table.renewed(NOW_NS) == before


def test_release_ends_authority_at_once_under_a_new_epoch() -> None:
    table = held_by("policy")
    epoch = table.renewed(NOW_NS).epoch
    table.release("policy")
    lease = table.renewed(NOW_NS)
    assert lease.source == ""
    assert lease.epoch > epoch
    assert lease.expiry_ns < NOW_NS


def test_release_by_another_changes_nothing() -> None:
    table = held_by("teleop")
    before = table.renewed(NOW_NS)
    table.release("policy")
    assert table.renewed(NOW_NS) == before


def test_holder_that_falls_silent_loses_authority_under_a_new_epoch() -> None:
    table = held_by("policy")
    epoch = table.renewed(NOW_NS).epoch
    assert renew_until(table, NOW_NS, NOW_NS + KEEPALIVE_NS).source == "policy"
    lease = renew_until(table, NOW_NS + KEEPALIVE_NS, NOW_NS + KEEPALIVE_NS + STEP_NS)
    assert lease.source == ""
    assert lease.epoch > epoch


def test_holder_that_is_heard_keeps_authority_under_the_same_epoch() -> None:
    table = held_by("policy")
    epoch = table.renewed(NOW_NS).epoch
    for i in range(200):
        now_ns = NOW_NS + i * STEP_NS
        if i % 10 == 0:
            table.keep("policy", now_ns)
        assert table.renewed(now_ns) == Lease("policy", epoch, now_ns + LEASE_NS)


def test_sign_of_life_of_another_does_not_count() -> None:
    table = held_by("policy")
    for now_ns in range(NOW_NS, NOW_NS + 2 * KEEPALIVE_NS, STEP_NS):
        table.keep("teleop", now_ns)
        table.renewed(now_ns)
    assert table.holder == ""


def test_time_in_which_the_table_was_frozen_is_not_silence_of_the_holder() -> None:
    table = held_by("policy")
    later_ns = NOW_NS + 50 * KEEPALIVE_NS
    assert table.renewed(later_ns).source == "policy"
    end_ns = later_ns + RESTORE_NS + STEP_NS
    assert renew_until(table, later_ns, end_ns).source == ""


def test_restored_holder_has_time_to_be_heard_again_but_not_for_ever() -> None:
    table = LeaseTable(first_epoch=7)
    table.restore("policy", NOW_NS)
    lease = renew_until(table, NOW_NS, NOW_NS + RESTORE_NS)
    assert (lease.source, lease.epoch) == ("policy", 8)
    assert (
        renew_until(table, lease.expiry_ns - LEASE_NS, NOW_NS + RESTORE_NS + STEP_NS).source == ""
    )


def test_unknown_source_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(SafetyError, match=r"one of policy, teleop, topic, got 'cat'"):
        LeaseTable().claim("cat", NOW_NS)


def test_epochs_go_on_after_a_restart() -> None:
    assert LeaseTable(first_epoch=41).claim("policy", NOW_NS) == 42


STEPS = st.tuples(
    st.sampled_from(["claim", "keep", "release", "wait"]), st.sampled_from([*RANKS, "cat"])
)


@given(st.lists(STEPS))
def test_epoch_rises_whenever_the_holder_changes_and_never_falls(
    steps: list[tuple[str, str]],
) -> None:
    table, now_ns = LeaseTable(), NOW_NS
    before = table.renewed(now_ns)
    for action, source in steps:
        now_ns += 100_000_000 if action == "wait" else 1_000_000
        try:
            if action == "release":
                table.release(source)
            elif action != "wait":
                getattr(table, action)(source, now_ns)
        except SafetyError:
            assert action == "claim"
        after = table.renewed(now_ns)
        assert after.source in ("", *RANKS)
        assert after.epoch >= before.epoch
        if after.source != before.source:
            assert after.epoch > before.epoch
        before = after


def test_instruction_is_named_in_leases_of_the_policy_only() -> None:
    table = held_by("policy")
    table.set_instruction(7)
    assert table.renewed(NOW_NS).instruction_id == 7
    table.claim("teleop", NOW_NS)
    assert table.renewed(NOW_NS).instruction_id == 0
    table.release("teleop")
    assert table.renewed(NOW_NS).instruction_id == 0
    table.claim("policy", NOW_NS)
    assert table.renewed(NOW_NS).instruction_id == 7
    table.set_instruction(0)
    assert table.renewed(NOW_NS).instruction_id == 0
